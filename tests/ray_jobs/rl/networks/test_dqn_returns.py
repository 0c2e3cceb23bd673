"""What networks say about returns: losses against loops over the papers' sums, and exact distributions of a chain and values of an MDP."""

import math
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from ray_jobs.recipe.plan import Play
from ray_jobs.rl.algorithms.off_policy.dqn import DQN
from ray_jobs.rl.contract import Alone, Transitions
from ray_jobs.rl.learning import play
from ray_jobs.rl.networks.nets import Dueling
from ray_jobs.rl.networks.returns import Atoms, Quantiles
from tests.ray_jobs.rl.scripted import Memory

N, A, K = 6, 3, 5


def transitions():
    """N transitions with different rewards, discounts and weights, and outputs of both networks at both observations."""
    rng = torch.Generator().manual_seed(1)

    def normal(*size):
        return torch.randn(*size, generator=rng, dtype=torch.float64)

    discount = torch.tensor([0.9, 0.0, 0.5, 1.0, 0.81, 0.0], dtype=torch.float64)
    data = Transitions(normal(N, 2), torch.arange(N) % A, normal(N), normal(N, 2), discount, normal(N).abs(), {})
    return data, normal(N, A * K), normal(N, A * K), normal(N, A)


@pytest.mark.parametrize("double", [False, True])
def test_the_loss_of_atoms_is_the_papers(double):
    """Algorithm 1 of Bellemare et al. 2017, atom by atom."""
    data, out, after, values = transitions()
    z = [-1.0, -0.5, 0.0, 0.5, 1.0]
    losses, means = [], []
    for i in range(N):
        probs = [after[i, a * K : a * K + K].softmax(0) for a in range(A)]
        best = (
            int(values[i].argmax())
            if double
            else max(range(A), key=lambda a: float(probs[a] @ torch.tensor(z).double()))
        )
        target = [0.0] * K
        for j in range(K):
            b = (min(1.0, max(-1.0, float(data.reward[i] + data.discount[i] * z[j]))) + 1) / 0.5
            low, high = math.floor(b), math.ceil(b)
            target[low] += float(probs[best][j]) * (high - b if high > low else 1)
            target[high] += float(probs[best][j]) * (b - low)
        a = int(data.action[i])
        mine = out[i, a * K : a * K + K].softmax(0)
        losses.append(-sum(t * math.log(p) for t, p in zip(target, mine.tolist(), strict=True)))
        means.append(float(mine @ torch.tensor(z).double()))
    found = Atoms(K, -1.0, 1.0).regress(out, data, after, values if double else None)
    torch.testing.assert_close(found.error, torch.tensor(losses, dtype=torch.float64))
    torch.testing.assert_close(found.q, torch.tensor(means, dtype=torch.float64))
    torch.testing.assert_close(found.loss, (data.weight * found.error).mean())


def test_the_loss_of_quantiles_is_the_papers():
    """Algorithm 1 of Dabney et al. 2018, pair by pair."""
    data, out, after, _ = transitions()
    losses = []
    for i in range(N):
        best = max(range(A), key=lambda a: float(after[i, a * K : a * K + K].mean()))
        a, total = int(data.action[i]), 0.0
        for m in range(K):
            for j in range(K):
                u = float(data.reward[i] + data.discount[i] * after[i, best * K + j] - out[i, a * K + m])
                size = u * u / 2 if abs(u) <= 0.7 else 0.7 * (abs(u) - 0.35)
                total += abs((m + 0.5) / K - (u < 0)) * size / K
        losses.append(total)
    found = Quantiles(K, 0.7).regress(out, data, after, None)
    torch.testing.assert_close(found.error, torch.tensor(losses, dtype=torch.float64))
    torch.testing.assert_close(found.loss, (data.weight * found.error).mean())


def test_a_dueling_network_sums_a_value_and_centred_advantages(seeded):
    trunk = nn.Linear(4, 6)
    net, x = Dueling(trunk, 6, 8, A, K), torch.randn(7, 4)
    q = net(x).unflatten(-1, (A, K))
    torch.testing.assert_close(q.mean(-2), net.value(trunk(x)))
    torch.testing.assert_close(
        q - q.mean(-2, keepdim=True), (a := net.advantage(trunk(x)).unflatten(-1, (A, K))) - a.mean(-2, keepdim=True)
    )
    slope = torch.randn(7, A * K)
    (scaled,) = torch.autograd.grad((net(x) * slope).sum(), trunk.weight)
    features = trunk(x)
    a = net.advantage(features).unflatten(-1, (A, K))
    plain = (net.value(features)[:, None] + a - a.mean(-2, keepdim=True)).flatten(-2)
    (full,) = torch.autograd.grad((plain * slope).sum(), trunk.weight)
    torch.testing.assert_close(scaled, full / math.sqrt(2))


BINOMIAL = {0: [1 / 8, 3 / 8, 3 / 8, 1 / 8], 1: [1 / 4, 1 / 2, 1 / 4, 0], 2: [1 / 2, 1 / 2, 0, 0]}


def chain():
    """Three states in a row, each left with a reward of 0 or 1: all six transitions, equally likely. Returns are binomial."""
    state = torch.tensor([0, 0, 1, 1, 2, 2])
    reward = torch.tensor([0.0, 1.0] * 3)
    eye = torch.eye(4)
    return Transitions(
        eye[state], torch.zeros(6, dtype=torch.long), reward, eye[state + 1], (state < 2).float(), torch.ones(6), {}
    )


@pytest.mark.parametrize("kind", ["atoms", "quantiles"])
def test_the_distribution_of_returns_is_exact(kind, seeded):
    """Sums of fair coins: C51 finds their probabilities, QR-DQN the quantiles at the midpoints."""
    of = {"atoms": {"atoms": 4, "low": 0.0, "high": 3.0}, "quantiles": {"quantiles": 8, "error_clip": 0.01}}[kind]
    algorithm = DQN(width=32, lr=3e-3, anneal=True, target_every=20, max_norm=float("inf"), **of)
    agent = algorithm.build(gym.spaces.Box(0, 1, (4,)), gym.spaces.Discrete(1))
    optimizers = algorithm.optimizers(agent)
    for k in range(800):
        algorithm.update(agent, optimizers, chain(), replace(Alone(torch.Generator()), progress=k / 800))
    out = agent.q(torch.eye(4)[:3]).detach()
    if kind == "atoms":
        torch.testing.assert_close(out.softmax(-1), torch.tensor(list(BINOMIAL.values())), atol=0.01, rtol=0)
    else:
        exact = torch.tensor([[r for r, p in enumerate(row) for _ in range(int(8 * p))] for row in BINOMIAL.values()])
        torch.testing.assert_close(out, exact.float(), atol=0.05, rtol=0)


OPTIONS = {
    "plain": {}, "double, dueling": {"double": True, "dueling": True}, "atoms": {"atoms": 11, "low": 0.0, "high": 1.0, "lr": 1e-2},
    "quantiles": {"quantiles": 8, "error_clip": 0.1, "dueling": True},
}  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS)
def test_values_are_the_optimal_ones_of_a_table(options):
    """FrozenLake's Q*, by value iteration on its table: an agent that plays at random finds it, whatever its outputs say."""
    table = gym.make("FrozenLake-v1", is_slippery=False).unwrapped.P
    exact = np.zeros((16, 4))
    for _ in range(40):
        exact = np.array(
            [
                [sum(p * (r + 0.8 * (0 if end else exact[s].max())) for p, s, r, end in table[i][a]) for a in range(4)]
                for i in range(16)
            ]
        )
    algorithm = DQN(
        buffer_size=20_000, batch_size=128, learning_starts=4000, train_every=64, updates_per_train=8, gamma=0.8,
        target_every=50, epsilon=1.0, width=64, **{"lr": 2e-3, "anneal": True} | OPTIONS[options],
    )  # fmt: skip
    plan = Play(algorithm, "FrozenLake-v1", steps=16_000, env_options={"is_slippery": False}, eval_episodes=1, envs=16)
    memory = Memory()
    play.play(plan, seed=0, run=memory)
    agent = algorithm.build(gym.spaces.Box(0, 1, (16,)), gym.spaces.Discrete(4))
    weights = memory.states[-1][1]["learners"][0]["learner"]["actor"]
    agent.load_state_dict({k.removeprefix("agent."): v for k, v in weights.items() if k.startswith("agent.")})
    q = algorithm.returns.mean(agent.q(torch.eye(16))).detach().numpy()
    open_ = [s for s in range(16) if s not in (5, 7, 11, 12, 15)]
    assert np.abs(q - exact)[open_].max() < 0.02


def test_settings_that_do_not_fit_together_get_one_sentence():
    for given in ({"atoms": 1}, {"atoms": 51, "quantiles": 10}, {"atoms": 51, "low": 1.0, "high": 1.0}):
        with pytest.raises(ValueError, match=r"^DQN takes 2 atoms or more, low below high, or quantiles, not both"):
            DQN(**given).build(gym.spaces.Box(0, 1, (4,)), gym.spaces.Discrete(2))
