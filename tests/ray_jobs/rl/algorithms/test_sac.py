"""Soft actor-critic against the exact soft values of a small problem, and against its own equations written out."""

import copy
import math

import gymnasium as gym
import numpy as np
import pytest
import torch

from ray_jobs.rl.algorithms.off_policy.sac import SAC
from ray_jobs.rl.contract import Alone, Transitions
from ray_jobs.tabular.mdp import MDP, soft_action_values
from tests.ray_jobs.rl.gradients import gradient_of, joined

OBS = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)
BOX = gym.spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32))


def made(algorithm, obs, action):
    agent = algorithm.build(obs, action)
    return agent, algorithm.optimizers(agent), Alone(torch.Generator().manual_seed(0))


def batch(n, action, generator, discount=0.9):
    """n transitions of noise."""
    obs, after = torch.randn(2, n, 3, generator=generator)
    reward, weight = torch.randn(n, generator=generator), torch.ones(n)
    return Transitions(obs, action, reward, after, torch.full((n,), discount), weight, {})


def swept(states=4, actions=3, each=5, gamma=0.8):
    """An MDP whose transitions are counts of `each`, and a batch that holds every one of them as often."""
    rng = np.random.default_rng(0)
    nexts = rng.integers(states, size=(states, actions, each))
    transition = np.eye(states)[nexts].mean(2)
    mdp = MDP(transition, rng.normal(size=(states, actions)), np.full(states, 1 / states), gamma)
    s, a, _ = (torch.from_numpy(x.ravel()) for x in np.indices(nexts.shape))
    eye, n = torch.eye(states), nexts.size
    reward = torch.from_numpy(mdp.reward).float()[s, a]
    after = eye[torch.from_numpy(nexts.ravel())]
    return mdp, Transitions(eye[s], a, reward, after, torch.full((n,), gamma), torch.ones(n), {})


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_sweeps_converge_to_the_soft_bellman_fixed_point(alpha, seeded):
    """Full sweeps of a random MDP: no sampling error. Q within 1e-3 of the exact soft values, whose spread is above 2."""
    mdp, data = swept()
    algorithm = SAC(automatic=False, alpha=alpha, actor_lr=1e-2, critic_lr=1e-2, tau=0.05, gamma=mdp.gamma, width=32)
    agent, optimizers, world = made(algorithm, gym.spaces.Box(0, 1, (4,), np.float32), gym.spaces.Discrete(3))
    for k in range(1000):
        for o in optimizers.values():
            o.lr = 1e-2 * (1 - k / 1000)
        algorithm.update(agent, optimizers, data, world)
    exact = torch.from_numpy(soft_action_values(mdp, alpha)).float()
    with torch.no_grad():
        q = agent.critics(torch.eye(4))
        policy = agent.actor.net(torch.eye(4)).softmax(-1)
    assert exact.max() - exact.min() > 2
    torch.testing.assert_close(q, exact.expand_as(q), atol=1e-3, rtol=0)
    torch.testing.assert_close(policy, (exact / alpha).softmax(-1), atol=1e-3, rtol=0)


def by_hand(net, x):
    """An `nn.Sequential` of linear layers and ReLU, or one member's weights and biases, in float64 by numpy."""
    for i, (w, b) in enumerate(net):
        x = x @ w.detach().double().numpy() + b.detach().double().numpy()
        x = np.maximum(x, 0) if i < len(net) - 1 else x
    return x


def test_the_target_of_continuous_actions_is_equation_5(seeded):
    """Written out row by row, with the action and its density from the formulas for a squashed normal."""
    algorithm = SAC(width=8)
    agent, _, _ = made(algorithm, OBS, BOX)
    for p in agent.target.parameters():
        p.data.add_(torch.randn_like(p))
    g = torch.Generator().manual_seed(1)
    data, alpha = batch(6, torch.rand(6, 2, generator=g), g), 0.7
    data = data._replace(discount=torch.tensor([0.9, 0.0, 0.9, 0.81, 0.9, 0.0]))
    got = algorithm.target(agent, data, torch.tensor(alpha), torch.Generator().manual_seed(5))
    z = torch.empty(6, 2).normal_(generator=torch.Generator().manual_seed(5)).double().numpy()
    actor = [(layer.weight.t(), layer.bias) for layer in agent.actor.net if hasattr(layer, "weight")]
    critics = [[(w[i], b[i]) for w, b in zip(agent.target.weights, agent.target.biases, strict=True)] for i in (0, 1)]
    for k in range(6):
        after = data.next_obs[k].double().numpy()
        out = by_hand(actor, after)
        mean, std = out[:2], np.exp(out[2:])
        x = mean + std * z[k]
        action = np.array(
            [2.0 * np.tanh(x[0]), np.tanh(x[1])]
        )  # as critics see it: [-2, 2] as it is, [0, 1] as [-1, 1]
        slope = np.array([2.0, 0.5]) * (1 - np.tanh(x) ** 2)
        logp = (-0.5 * z[k] ** 2 - np.log(std) - 0.5 * math.log(2 * math.pi) - np.log(slope)).sum()
        q = min(by_hand(c, np.concatenate([after, action])).item() for c in critics)
        wanted = data.reward[k].item() + data.discount[k].item() * (q - alpha * logp)
        assert abs(got[k].item() - wanted) < 1e-4


def test_the_target_of_discrete_actions_is_the_mean_over_all(seeded):
    algorithm = SAC(width=8)
    agent, _, _ = made(algorithm, OBS, gym.spaces.Discrete(4))
    g = torch.Generator().manual_seed(1)
    data, alpha = batch(5, torch.randint(4, (5,), generator=g), g), 0.7
    got = algorithm.target(agent, data, torch.tensor(alpha), g)
    with torch.no_grad():
        q, probs = agent.target(data.next_obs), agent.actor.net(data.next_obs).softmax(-1)
    for k in range(5):
        value = sum(
            probs[k, a].item() * (min(q[0, k, a], q[1, k, a]).item() - alpha * math.log(probs[k, a])) for a in range(4)
        )
        assert abs(got[k].item() - (data.reward[k].item() + 0.9 * value)) < 1e-5


@pytest.mark.parametrize("action", [BOX, gym.spaces.Discrete(4)], ids=["box", "discrete"])
def test_the_critics_are_moved_by_equation_5_alone(action, seeded):
    """What the whole update leaves in their gradient is that of the squared errors: the actor's loss has added nothing."""
    algorithm = SAC(width=8, tau=0.1, automatic=False, alpha=0.5)
    agent, optimizers, world = made(algorithm, OBS, action)
    before, g = copy.deepcopy(agent), torch.Generator().manual_seed(1)
    actions = torch.rand(6, 2, generator=g) if action is BOX else torch.randint(4, (6,), generator=g)
    data = batch(6, actions, g)
    target = algorithm.target(before, data, torch.tensor(0.5), torch.Generator().manual_seed(0))
    if action is BOX:
        q = before.critics(data.obs, actions)
    else:
        q = before.critics(data.obs)[:, torch.arange(6), actions]
    loss = 0.5 * (q - target).square().sum() / 6
    exact = torch.autograd.grad(loss, list(before.critics.parameters()))
    algorithm.update(agent, optimizers, data, world)
    torch.testing.assert_close(gradient_of(agent.critics), joined(exact))
    assert agent.actor.log_alpha.item() == pytest.approx(math.log(0.5))
    for slow, then, now in zip(*(x.parameters() for x in (agent.target, before.target, agent.critics)), strict=True):
        torch.testing.assert_close(slow, then + 0.1 * (now - then))


def test_the_actors_gradient_is_that_of_the_exact_objective(seeded):
    """One action in [-1, 1], one observation. E[alpha log pi - Q] by quadrature against the mean of 20,000 draws of each
    parameter's gradient: |z| < 4.5 for both, above which chance goes with probability 1.4e-5."""
    algorithm = SAC(width=8)
    agent, _, world = made(algorithm, OBS, gym.spaces.Box(-1.0, 1.0, (1,), np.float32))
    obs, alpha, n = torch.randn(1, 3), 0.3, 20_000
    out = torch.tensor([[0.4, -0.5]])

    def objective(x):  # x [., 2]: mean and log deviation, in float64
        z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
        weight = (-0.5 * z.square()).softmax(0)
        u = x[0] + x[1].exp() * z
        logp = -0.5 * z.square() - x[1] - 0.5 * math.log(2 * math.pi) - torch.log1p(-u.tanh().square())
        q = agent.critics.double()(obs.double().expand(4001, -1), u.tanh()[:, None]).amin(0)
        return (weight * (alpha * logp - q)).sum()

    exact = torch.autograd.functional.jacobian(objective, out[0].double())
    agent.critics.float()
    rows = out.expand(n, -1).clone().requires_grad_()
    agent.actor.forward = lambda obs: rows
    q, logp = agent.evaluate(agent.critics, obs.expand(n, -1), world.rng)
    (drawn,) = torch.autograd.grad((alpha * logp - q.amin(0)).sum(), rows)
    z = (drawn.mean(0) - exact) / (drawn.std(0) / math.sqrt(n))
    assert z.abs().max() < 4.5


@pytest.mark.parametrize(
    ("action", "target"), [(gym.spaces.Box(-2.0, 2.0, (1,), np.float32), None), (gym.spaces.Discrete(4), 0.8)]
)
def test_the_automatic_temperature_brings_the_entropy_to_its_target(action, target, seeded):
    """A bandit, whose best action would be certain. Over the last 500 updates the entropy is within 0.05 nats of its target on
    average; of that, sampling is 0.003 (one standard error, 500 times 128 draws)."""
    algorithm = SAC(actor_lr=1e-2, critic_lr=1e-2, tau=0.05, width=16, alpha=0.5, target_entropy=target)
    agent, optimizers, world = made(algorithm, OBS, action)
    g = torch.Generator().manual_seed(1)
    discrete = isinstance(action, gym.spaces.Discrete)
    actions = torch.randint(4, (128,), generator=g) if discrete else torch.rand(128, 1, generator=g) * 4 - 2
    data = batch(128, actions, g, discount=0.0)
    data = data._replace(reward=2.0 * actions if discrete else -4 * (actions[:, 0] - 0.5).square())
    entropies = [algorithm.update(agent, optimizers, data, world)["entropy"] for _ in range(1000)]
    entropy = torch.stack(entropies[500:]).mean().item()
    wanted = 0.8 if discrete else -1 + math.log(2)  # minus one nat of an action scaled to +-1
    assert entropy == pytest.approx(wanted, abs=0.05)


def test_a_fixed_temperature_stays(seeded):
    algorithm = SAC(automatic=False, alpha=0.2)
    agent, optimizers, world = made(algorithm, OBS, BOX)
    g = torch.Generator().manual_seed(1)
    data = batch(64, torch.rand(64, 2, generator=g), g)
    alphas = [algorithm.update(agent, optimizers, data, world)["alpha"] for _ in range(2)]
    assert alphas[0] == alphas[1] == torch.tensor(math.log(0.2)).exp()


@pytest.mark.parametrize(
    "space", [gym.spaces.Discrete(1), gym.spaces.MultiDiscrete([2, 3]), gym.spaces.Box(-np.inf, np.inf, (1,))], ids=str
)
def test_other_spaces_are_refused(space):
    with pytest.raises(ValueError, match="SAC needs a Box with finite bounds"):
        SAC().build(OBS, space)


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(ValueError, match="alpha must be above 0"):
        SAC(alpha=0.0).build(OBS, BOX)
