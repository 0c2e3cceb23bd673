"""Whole updates, several in a row, of DQN, SAC, TD3, DDPG, A2C and A3C against their equations written with torch.autograd.

The optimisers, too, are torch's. What is compared: all weights, slow copies included, and the losses that are logged.
"""

import copy
import math
from contextlib import nullcontext
from dataclasses import replace

import gymnasium as gym
import pytest
import torch
from torch import distributions as D

from ray_jobs.rl.algorithms.off_policy.ddpg import DDPG
from ray_jobs.rl.algorithms.off_policy.dqn import DQN
from ray_jobs.rl.algorithms.off_policy.sac import SAC
from ray_jobs.rl.algorithms.off_policy.td3 import TD3
from ray_jobs.rl.algorithms.policy_gradient.a2c import A2C
from ray_jobs.rl.algorithms.policy_gradient.a3c import A3C
from ray_jobs.rl.contract import Gradient, Transitions
from ray_jobs.rl.fast.recorded import recorded_calls
from tests.ray_jobs.rl.algorithms import plain
from tests.ray_jobs.rl.algorithms.invented import SPACES, advantages, alone, built, invented
from tests.ray_jobs.rl.gradients import joined

N, UPDATES = 12, 5
BOUNDED = gym.spaces.Box(-2.0, 1.0, (2,))


def seen(action):
    """An action as critics see it: [-2, 1] as [-1, 1]."""
    return (action + 0.5) / 1.5


def transitions(action, seed):
    """N random ones in double precision; every third ends its task, discounts and weights are all different."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    discrete = isinstance(action, gym.spaces.Discrete)
    done = torch.randint(int(action.n), (N,), generator=rng) if discrete else normal(N, 2).clamp(-2, 1)
    discount = 0.5 + 0.4 * torch.rand(N, generator=rng, dtype=torch.float64)
    discount[::3] = 0
    weight = torch.rand(N, generator=rng, dtype=torch.float64)
    return Transitions(normal(N, 2), done, 3 * normal(N), normal(N, 2), discount, weight, {})


def compared(algorithm, action, definition, logged):
    """Five updates by the algorithm and by its definition from the same weights; and as a learner makes them, with recorded calls."""
    for how in (nullcontext, recorded_calls):
        compared_in(how, algorithm, action, definition, logged)


def compared_in(how, algorithm, action, definition, logged):
    agent = built(algorithm, action)
    twin = copy.deepcopy(agent)
    optimizers, ours, theirs = algorithm.optimizers(agent), alone(), alone()
    step = definition(algorithm, twin)
    for k in range(UPDATES):
        with how():
            log = algorithm.update(agent, optimizers, transitions(action, k), ours)
        loss = step(transitions(action, k), theirs.rng)
        torch.testing.assert_close(log[logged], loss.detach())
        plain.same(agent, twin)


def dqn(algorithm, agent):
    optimizer, count = plain.Steps(agent.q, lr=algorithm.lr, max_norm=algorithm.max_norm), 0

    def step(data, rng):
        nonlocal count
        with torch.no_grad():
            after = plain.relu_net(agent.target, data.next_obs)
            best = (plain.relu_net(agent.q, data.next_obs) if algorithm.double else after).argmax(1)
            target = data.reward + data.discount * after[torch.arange(N), best]
        error = plain.relu_net(agent.q, data.obs)[torch.arange(N), data.action] - target
        near, clip = error.abs() < algorithm.error_clip, algorithm.error_clip
        loss = (data.weight * torch.where(near, error**2 / 2, clip * (error.abs() - clip / 2))).sum() / N
        optimizer.down(loss)
        count += 1
        if count % algorithm.target_every == 0:
            agent.target.load_state_dict(agent.q.state_dict())
        agent.epsilon.fill_(1.0)
        return loss

    return step


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("error_clip", [1.0, 0.3])
def test_dqn(error_clip, double):
    algorithm = DQN(width=8, target_every=2, double=double, error_clip=error_clip, max_norm=0.5, lr=0.01)
    compared(algorithm, SPACES["discrete"], dqn, "td_loss")


def sac(algorithm, agent):
    actor = plain.Steps(agent.actor, lr=algorithm.actor_lr)
    critic = plain.Steps(agent.critics, lr=algorithm.critic_lr)
    squash = None if agent.discrete else agent.actor.policy.squash

    def judged(critics, obs, rng):
        """The policy's mean of f(min Q, log pi) as a function of f."""
        out = plain.relu_net(agent.actor.net, obs)
        if agent.discrete:
            pi = D.Categorical(logits=out)
            q = plain.critics(critics, obs).amin(0).detach()
            return lambda f: (pi.probs * f(q, pi.logits)).sum(1)
        z = torch.empty(N, 2).normal_(generator=rng).double()
        action, logp = plain.squashed(squash, out, z)
        q = plain.critics(critics, torch.cat([obs, seen(action)], 1)).amin(0)[:, 0]
        return lambda f: f(q, logp)

    def step(data, rng):
        alpha = agent.actor.log_alpha.detach().exp()
        with torch.no_grad():
            value = judged(agent.target, data.next_obs, rng)(lambda q, logp: q - alpha * logp)
            target = data.reward + data.discount * value
        if agent.discrete:
            q = plain.critics(agent.critics, data.obs)[:, torch.arange(N), data.action]
        else:
            q = plain.critics(agent.critics, torch.cat([data.obs, seen(data.action)], 1))[..., 0]
        loss = ((q[0] - target) ** 2 / 2).mean() + ((q[1] - target) ** 2 / 2).mean()
        critic.down(loss)
        mean = judged(agent.critics, data.obs, rng)
        policy, logp = mean(lambda q, logp: alpha * logp - q).mean(), mean(lambda q, logp: logp).mean()
        if algorithm.automatic:
            goal = 0.98 * math.log(3) if agent.discrete else squash.reach.log().sum() - 2
            policy = policy - agent.actor.log_alpha.exp() * (logp.detach() + goal)
        actor.down(policy)
        plain.polyak(agent.target, agent.critics, algorithm.tau)
        return loss

    return step


@pytest.mark.parametrize("automatic", [True, False])
@pytest.mark.parametrize("action", [BOUNDED, SPACES["discrete"]], ids=["box", "discrete"])
def test_sac(action, automatic):
    algorithm = SAC(width=8, tau=0.1, alpha=0.4, automatic=automatic, actor_lr=0.01, critic_lr=0.02)
    compared(algorithm, action, sac, "critic_loss")


def deterministic(agent, net, obs):
    squash = agent.actor.squash
    return squash.centre + squash.reach * plain.relu_net(net.net, obs).tanh()


def td3(algorithm, agent):
    actor = plain.Steps(agent.actor, lr=algorithm.actor_lr)
    critic = plain.Steps(agent.critics, lr=algorithm.critic_lr)
    squash, count = agent.actor.squash, 0

    def step(data, rng):
        nonlocal count
        count += 1
        with torch.no_grad():
            noise = torch.empty(N, 2, dtype=torch.float64).normal_(generator=rng) * algorithm.smoothing
            noise = noise.clamp(-algorithm.smoothing_clip, algorithm.smoothing_clip) * squash.reach
            after = torch.max(
                torch.min(deterministic(agent, agent.slow_actor, data.next_obs) + noise, squash.high), squash.low
            )
            q = plain.critics(agent.slow_critics, torch.cat([data.next_obs, seen(after)], 1))[..., 0]
            target = data.reward + data.discount * torch.min(q[0], q[1])
        q = plain.critics(agent.critics, torch.cat([data.obs, seen(data.action)], 1))[..., 0]
        loss = ((q[0] - target) ** 2).mean() + ((q[1] - target) ** 2).mean()
        critic.down(loss)
        if count % algorithm.delay == 0:
            a = deterministic(agent, agent.actor, data.obs)
            actor.down(-plain.critics(agent.critics, torch.cat([data.obs, seen(a)], 1))[0].mean())
            plain.polyak(agent.slow_critics, agent.critics, algorithm.tau)
            plain.polyak(agent.slow_actor, agent.actor, algorithm.tau)
        agent.actor.started.fill_(1.0)
        return loss

    return step


@pytest.mark.parametrize("delay", [1, 2])
def test_td3(delay):
    algorithm = TD3(width=8, delay=delay, tau=0.1, actor_lr=0.01, critic_lr=0.02, smoothing=0.4, smoothing_clip=0.3)
    compared(algorithm, BOUNDED, td3, "td_loss")


def ddpg(algorithm, agent):
    actor = plain.Steps(agent.actor, lr=algorithm.actor_lr)
    critic = plain.Steps(agent.critics, lr=algorithm.critic_lr)

    def step(data, rng):
        with torch.no_grad():
            after = deterministic(agent, agent.slow_actor, data.next_obs)
            q = plain.critics(agent.slow_critics, torch.cat([data.next_obs, seen(after)], 1))[0, :, 0]
            target = data.reward + data.discount * q
        loss = (
            (plain.critics(agent.critics, torch.cat([data.obs, seen(data.action)], 1))[0, :, 0] - target) ** 2
        ).mean()
        critic.down(loss)
        a = deterministic(agent, agent.actor, data.obs)
        actor.down(-plain.critics(agent.critics, torch.cat([data.obs, seen(a)], 1))[0].mean())
        plain.polyak(agent.slow_critics, agent.critics, algorithm.tau)
        plain.polyak(agent.slow_actor, agent.actor, algorithm.tau)
        agent.actor.started.fill_(1.0)
        return loss

    return step


def test_ddpg():
    compared(DDPG(width=8, tau=0.1, actor_lr=0.01, critic_lr=0.02), BOUNDED, ddpg, "td_loss")


# ---- A2C and A3C


def actor_critic_loss(algorithm, agent, data):
    """Algorithm S3: log pi times R - V, the squared error, and the entropy; R by a double sum over time."""
    gain, value = advantages(data, lambda obs: plain.actor_critic(agent, obs)[1], algorithm.gamma, 1.0)
    out, v = plain.actor_critic(agent, data.obs[:-1])
    pi = plain.distribution(agent.policy, out)
    policy, error = -(pi.log_prob(data.action) * gain).mean(), ((gain + value - v) ** 2).mean()
    entropy = pi.entropy().mean()
    return policy + algorithm.value_weight * error - algorithm.entropy_weight * entropy, policy, error


def optimizer_of(algorithm, agent):
    if algorithm.use_rmsprop:
        return plain.Steps(agent, torch.optim.RMSprop, algorithm.max_norm, lr=algorithm.lr, eps=algorithm.eps)
    return plain.Steps(agent, torch.optim.Adam, algorithm.max_norm, lr=algorithm.lr, eps=1e-5)


@pytest.mark.parametrize("kind", ["discrete", "box"])
@pytest.mark.parametrize("use_rmsprop", [True, False])
@pytest.mark.parametrize("shared", [False, True])
def test_a2c(shared, use_rmsprop, kind):
    algorithm = A2C(
        width=8, shared=shared, use_rmsprop=use_rmsprop, lr=0.01, max_norm=0.3, entropy_weight=0.1, gamma=0.9
    )
    agent = built(algorithm, SPACES[kind])
    twin = copy.deepcopy(agent)
    optimizers, theirs = algorithm.optimizers(agent), optimizer_of(algorithm, twin)
    for k in range(UPDATES):
        data = invented(SPACES[kind], seed=k)
        log = algorithm.update(agent, optimizers, data, alone())
        loss, policy, error = actor_critic_loss(algorithm, twin, data)
        theirs.down(loss)
        torch.testing.assert_close(log["policy_loss"], policy.detach())
        torch.testing.assert_close(log["value_loss"], error.detach())
        plain.same(agent, twin)


@pytest.mark.parametrize("kind", ["discrete", "box"])
def test_a3c(kind):
    """Two runners' gradients, computed by the weights from before both, are applied one after the other."""
    algorithm = A3C(width=8, lr=0.01, max_norm=0.3, entropy_weight=0.1, gamma=0.875)
    agent = built(algorithm, SPACES[kind])
    twin = copy.deepcopy(agent)
    optimizers, theirs = algorithm.optimizers(agent), optimizer_of(algorithm, twin)
    for k in range(UPDATES):
        stale = copy.deepcopy(agent)
        for seed in (2 * k, 2 * k + 1):
            data = invented(SPACES[kind], seed=seed)
            loss, log = algorithm.loss(stale, data)
            expected, policy, error = actor_critic_loss(algorithm, stale, data)
            torch.testing.assert_close((loss, log["policy_loss"], log["value_loss"]), (expected, policy, error))
            flat = joined(torch.autograd.grad(loss, list(stale.parameters())))
            algorithm.update(agent, optimizers, Gradient(flat, {}), alone())
            old = [p.detach().clone() for p in twin.parameters()]
            for p, s in zip(twin.parameters(), stale.parameters(), strict=True):
                p.data.copy_(s)
            loss = actor_critic_loss(replace(algorithm), twin, data)[0]
            grads = torch.autograd.grad(loss, list(twin.parameters()))
            for p, x in zip(twin.parameters(), old, strict=True):
                p.data.copy_(x)
            theirs.down(sum((p * g).sum() for p, g in zip(twin.parameters(), grads, strict=True)))
            plain.same(agent, twin)
