"""Phasic policy gradient: what its auxiliary phase may and may not do to the policy, and its targets by definition."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch

from ray_jobs.rl.algorithms.policy_gradient.ppg import PPG
from ray_jobs.rl.contract import Alone, Steps
from tests.ray_jobs.rl.gradients import gradient_of

OBS = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)
SPACES = {
    "discrete": gym.spaces.Discrete(4),
    "multi": gym.spaces.MultiDiscrete([2, 3]),
    "box": gym.spaces.Box(-1.0, 1.0, (2,), np.float32),
}
every = pytest.mark.parametrize("action", SPACES.values(), ids=SPACES)


def made(algorithm, action):
    """An agent whose policy is not all but even, as an untrained one is."""
    agent = algorithm.build(OBS, action)
    for p in agent.actor.parameters():
        p.data.add_(0.2 * torch.randn_like(p))
    return agent, algorithm.optimizers(agent), Alone(torch.Generator().manual_seed(0))


def steps(action, t=8, b=6, seed=0):
    """Noise, with ends of both kinds."""
    g = torch.Generator().manual_seed(seed)
    over = torch.rand(2, t, b, generator=g) < 0.15
    terminated, truncated = over[0], over[1] & ~over[0]
    action.seed(seed)
    actions = torch.from_numpy(np.stack([action.sample() for _ in range(t * b)])).reshape(t, b, *action.shape)
    obs, last = torch.randn(t + 1, b, 3, generator=g), torch.randn(int(truncated.sum()), 3, generator=g)
    return Steps(obs, actions, torch.randn(t, b, generator=g), terminated, truncated, last, {})


@every
def test_the_clone_term_alone_does_not_move_the_policy(action, seeded):
    """Where now and before are the same and the auxiliary error has no weight, the gradient on the actor is 0, to rounding."""
    algorithm = PPG(aux_weight=0.0, aux_epochs=1, aux_minibatches=1, beta_clone=10.0)
    agent, optimizers, world = made(algorithm, action)
    algorithm.reflect(agent, optimizers, [steps(action)], world)
    gradient = gradient_of(agent.actor)
    assert gradient.abs().max() < 1e-6


@every
def test_the_kl_of_an_auxiliary_phase_is_bounded_by_what_the_head_gains(action, seeded):
    """Where the joint loss has not risen, beta KL <= the auxiliary error at first, for at first the KL is 0. Without the clone
    term the policy goes 10 times as far."""
    data, kls = steps(action, b=18), []
    for beta in (100.0, 0.0):
        algorithm = PPG(aux_epochs=60, aux_minibatches=1, beta_clone=beta, lr=1e-3)
        torch.manual_seed(0)
        agent, optimizers, world = made(algorithm, action)
        batch, old = algorithm.prepare(agent, data), copy.deepcopy(agent.actor.policy)
        with torch.no_grad():
            first, none = algorithm.joint(agent, batch, old)
            value_error = (agent.value(batch.obs) - batch.target).square().mean()
        algorithm.reflect(agent, optimizers, [data], world)
        with torch.no_grad():
            last, kl = algorithm.joint(agent, batch, old)
            assert (agent.value(batch.obs) - batch.target).square().mean() < 0.9 * value_error
        assert abs(none) < 1e-6
        assert last + beta * kl <= first
        assert beta * kl <= first
        kls.append(kl)
    assert 10 * kls[0] < kls[1]


@pytest.mark.parametrize("kind", ["discrete", "box"])
def test_the_clone_term_is_the_kl_from_the_policy_before(kind, seeded):
    """KL(before || now) of torch's distributions, with a Gaussian's deviations moved as well."""
    algorithm, action = PPG(), SPACES[kind]
    agent, _, _ = made(algorithm, action)
    batch, old = algorithm.prepare(agent, steps(action)), copy.deepcopy(agent.actor.policy)
    for p in agent.actor.parameters():
        p.data.add_(0.2 * torch.randn_like(p))

    def distribution(out, policy):
        if kind == "discrete":
            return torch.distributions.Categorical(logits=out)
        return torch.distributions.Independent(torch.distributions.Normal(out, policy.log_std.exp()), 1)

    with torch.no_grad():
        out, value = agent.actor(batch.obs)
        exact = torch.distributions.kl_divergence(
            distribution(batch.out, old), distribution(out, agent.actor.policy)
        ).mean()
        error, kl = algorithm.joint(agent, batch, old)
    torch.testing.assert_close(kl, exact)
    torch.testing.assert_close(error, 0.5 * (value - batch.target).square().mean())


@every
def test_advantages_and_targets_by_definition(action, seeded):
    """GAE summed as its definition says: delta_t + (gamma lam) delta_{t+1} + ... up to the episode's end."""
    algorithm, data = PPG(gamma=0.9, lam=0.7), steps(action)
    agent, _, _ = made(algorithm, action)
    got = algorithm.prepare(agent, data)
    with torch.no_grad():
        v, v_cut = agent.value(data.obs), agent.value(data.last_obs)
        logp = agent.actor.policy.log_prob(agent.actor.logits(data.obs[:-1]), data.action)
    cut = {tuple(x): k for k, x in enumerate(data.truncated.nonzero().tolist())}
    t_max, b_max = data.reward.shape
    for n, (t, b) in enumerate(np.ndindex(t_max, b_max)):
        advantage, weight = 0.0, 1.0
        for s in range(t, t_max):
            after = v_cut[cut[s, b]] if data.truncated[s, b] else v[s + 1, b] * ~data.terminated[s, b]
            advantage += weight * (data.reward[s, b] + 0.9 * after - v[s, b]).item()
            weight *= 0.9 * 0.7
            if data.boundary[s, b]:
                break
        assert got.advantage[n].item() == pytest.approx(advantage, abs=1e-5)
        assert got.target[n].item() == pytest.approx(advantage + v[t, b].item(), abs=1e-5)
    torch.testing.assert_close(got.logp, logp.flatten())


@every
def test_the_policy_phase_trains_policy_and_value_apart(action, seeded):
    """Its first step's gradients are the policy gradient's of standardised advantages, and the squared error's: no more on either
    network; the auxiliary head stays where it is."""
    algorithm = PPG(minibatches=1, entropy_weight=0.0, max_norm=float("inf"))
    agent, optimizers, world = made(algorithm, action)
    slow, data = copy.deepcopy(agent), steps(action)
    batch = algorithm.prepare(slow, data)
    a = batch.advantage
    logp = slow.actor.policy.log_prob(slow.actor.logits(batch.obs), batch.action)
    (-logp * (a - a.mean()) / a.std(correction=0)).mean().backward()
    (0.5 * (slow.value(batch.obs) - batch.target).square()).mean().backward()
    algorithm.update(agent, optimizers, data, world)
    for (name, p), other in zip(agent.named_parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(p.grad, other.grad, atol=1e-6, rtol=1e-4, msg=name)
    (weight,) = (p for n, p in agent.actor.named_parameters() if n.endswith("layers.2.weight"))
    assert not weight.grad[-1].any()


def test_an_auxiliary_phase_sees_every_kept_step_in_every_epoch(seeded):
    """Minibatches partition all steps of all policy phases."""
    seen = []

    class Watched(PPG):
        def joint(self, agent, part, old):
            seen.append(part.obs)
            return super().joint(agent, part, old)

    algorithm, action = Watched(aux_epochs=2, aux_minibatches=4), SPACES["discrete"]
    kept = [steps(action, seed=s) for s in range(2)]
    agent, optimizers, world = made(algorithm, action)
    algorithm.reflect(agent, optimizers, kept, world)
    assert len(seen) == 2 * 4 * 2
    everything = torch.cat([data.obs[:-1].flatten(0, 1) for data in kept])
    for epoch in (seen[:8], seen[8:]):
        assert torch.equal(torch.cat(epoch).sort(0).values, everything.sort(0).values)
    assert not torch.equal(seen[0], seen[8])


def test_images_have_networks_too(seeded):
    """Convolutions for both; an update and an auxiliary phase move them, and what comes back is finite."""
    algorithm = PPG(minibatches=2, aux_epochs=1, aux_minibatches=1)
    agent = algorithm.build(gym.spaces.Box(0, 255, (1, 10, 10), np.uint8), SPACES["discrete"])
    optimizers, world = algorithm.optimizers(agent), Alone(torch.Generator().manual_seed(0))
    data = steps(SPACES["discrete"], 3, 2)
    pictures = torch.randint(0, 255, (4, 2, 1, 10, 10), dtype=torch.uint8)
    cut = torch.randint(0, 255, (len(data.last_obs), 1, 10, 10), dtype=torch.uint8)
    data, before = data._replace(obs=pictures, last_obs=cut), copy.deepcopy(agent.critic)
    log = algorithm.update(agent, optimizers, data, world) | algorithm.reflect(agent, optimizers, [data], world)
    assert all(torch.isfinite(x) for x in log.values())
    assert not torch.equal(next(agent.critic.parameters()), next(before.parameters()))
