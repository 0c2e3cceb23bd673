"""ACER with continuous actions against a gradient in closed form, and against its algorithm written out."""

import copy
import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from ray_jobs.rl.algorithms.off_policy.acer_continuous import ACERContinuous
from ray_jobs.rl.contract import Alone, Steps

OBS = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)
BOX = gym.spaces.Box(np.array([-2.0, -2.0], np.float32), np.array([2.0, 2.0], np.float32))


def sequences(t, b, seed=0):
    """Noise, with ends of both kinds and a policy of its own."""
    g = torch.Generator().manual_seed(seed)
    over = torch.rand(2, t, b, generator=g) < 0.15
    terminated, truncated = over[0], over[1] & ~over[0]
    mean = 0.3 * torch.randn(t, b, 2, generator=g)
    return Steps(
        torch.randn(t + 1, b, 3, generator=g),
        mean + 0.6 * torch.randn(t, b, 2, generator=g),
        torch.randn(t, b, generator=g),
        terminated,
        truncated,
        torch.randn(int(truncated.sum()), 3, generator=g),
        {"mean": mean},
    )


class Fixed(nn.Module):
    """The same mean everywhere."""

    def __init__(self, mean):
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(mean))

    def forward(self, x):
        return self.mean.expand(*x.shape[:-1], 2)


class Known(nn.Module):
    """A function of the last two inputs, which are the action; its parameter does nothing."""

    def __init__(self, function):
        super().__init__()
        self.function, self.idle = function, nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.function(x[..., -2:])[..., None] + 0 * self.idle


@pytest.mark.parametrize("c", [0.8, 5.0])
def test_with_exact_critics_the_mean_climbs_the_expected_reward(c, seeded):
    """A bandit whose reward is -|a - t|^2, played by another policy: the derivative of its mean by m is -2 (m - t).

    40 updates of 1000 steps that change nothing (lr is 0): their mean is within 4.5 standard errors in both dimensions, which chance
    exceeds with probability 1e-4 (Student's t, 39 degrees of freedom).
    """
    m, mu, t, std = torch.tensor([0.2, -0.3]), torch.tensor([0.5, 0.1]), torch.tensor([1.0, -0.5]), 0.8
    algorithm = ACERContinuous(c=c, std=std / 2, delta=float("inf"), lr=0.0, max_norm=float("inf"), value_weight=0.0)
    agent = algorithm.build(OBS, BOX)

    def reward(a):
        return -(a - t).square().sum(-1)

    value = -(m - t).square().sum().item() - 2 * std**2
    agent.now.actor.net, agent.now.a = Fixed(m.tolist()), Known(reward)
    agent.now.v = Known(lambda a: torch.full(a.shape[:-1], value))
    agent.average = copy.deepcopy(agent.now.actor)
    optimizers, world = algorithm.optimizers(agent), Alone(torch.Generator().manual_seed(0))
    g, found = torch.Generator().manual_seed(1), []
    for _ in range(40):
        action = mu + std * torch.randn(1, 1000, 2, generator=g)
        ended, obs = torch.ones(1, 1000, dtype=torch.bool), torch.zeros(2, 1000, 3)
        mean = {"mean": mu.expand(1, 1000, 2)}
        algorithm.update(agent, optimizers, Steps(obs, action, reward(action), ended, ~ended, obs[0, :0], mean), world)
        found.append(-agent.now.actor.net.mean.grad.clone())
    found = torch.stack(found)
    z = (found.mean(0) + 2 * (m - t)) / (found.std(0) / math.sqrt(40))
    assert z.abs().max() < 4.5


def test_dueling_values_average_to_v(seeded):
    """Over 50,000 actions of the policy, the mean of Q~ is V within 4.5 standard errors (chance: 7e-6)."""
    algorithm = ACERContinuous()
    agent = algorithm.build(OBS, BOX)
    policy, n, g = agent.now.actor.policy, 50_000, torch.Generator().manual_seed(0)
    obs = torch.randn(3, generator=g).expand(2, n, 3)
    with torch.no_grad():
        drawn = policy.sample(agent.now.actor(obs[:1]).expand(7, 1, n, 2), g)
        empty = torch.zeros(1, n, dtype=torch.bool)
        seen = algorithm.judge(agent.now, Steps(obs, drawn[0], drawn[0, ..., 0], empty, empty, obs[0, :0], {}), drawn)
    gap = (seen.q - seen.value).flatten()
    assert gap.std() > 0.01
    assert abs(gap.mean()) < 4.5 * gap.std() / math.sqrt(n)


def test_an_update_is_algorithm_3(seeded):
    """The gradients that an update leaves, against loops over steps that follow the paper's algorithm with the same draws."""
    algorithm = ACERContinuous(c=1.2, delta=0.01, gamma=0.9, value_weight=1.0, lr=0.0, max_norm=float("inf"), drawn=3)
    agent = algorithm.build(OBS, BOX)
    for p in agent.average.net.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    data, slow = sequences(5, 4), copy.deepcopy(agent)
    now, std = slow.now, torch.tensor([0.6, 0.6])  # 0.3 of half the Box's width, 2 in both dimensions
    mean = now.actor(data.obs[:-1])
    noise = torch.empty(4, 5, 4, 2).normal_(generator=torch.Generator().manual_seed(7))
    drawn = mean.detach() + std * noise  # a' first, then the baseline's

    def density(a, m):
        return (-0.5 * ((a - m) / std).square() - std.log() - 0.5 * math.log(2 * math.pi)).sum().exp().item()

    def dueling(t, b, a):
        x = data.obs[t, b]
        others = torch.stack([now.a(torch.cat([x, u])[None]) for u in drawn[1:, t, b]]).mean()
        return (value(x) + now.a(torch.cat([x, a])[None]) - others).squeeze()

    def value(x):
        return now.v(x[None]).squeeze()

    cut = {tuple(x): k for k, x in enumerate(data.truncated.nonzero().tolist())}
    loss, active = 0.0, 0
    for b in range(4):
        ret = opc = value(data.obs[5, b]).item()
        for t in reversed(range(5)):
            if data.terminated[t, b]:
                ret = opc = 0.0
            if data.truncated[t, b]:
                ret = opc = value(data.last_obs[cut[t, b]]).item()
            ret, opc = (data.reward[t, b].item() + 0.9 * x for x in (ret, opc))
            a, other, m, behaviour = data.action[t, b], drawn[0, t, b], mean[t, b], data.extras["mean"][t, b]
            rho, rho_other = (density(x, m.detach()) / density(x, behaviour) for x in (a, other))
            v, q, q_other = value(data.obs[t, b]), dueling(t, b, a), dueling(t, b, other).item()
            g = min(1.2, rho) * (opc - v.item()) * (a - m.detach()) / std**2
            g = g + max(0.0, 1 - 1.2 / rho_other) * (q_other - v.item()) * (other - m.detach()) / std**2
            k = (m.detach() - slow.average(data.obs[t, b][None])[0].detach()) / std**2
            excess = max(0.0, (k @ g).item() - 0.01)
            active += excess > 0
            z = (g - excess / (k @ k) * k).detach()
            loss = loss - z @ m - (ret - q.item()) * q - min(1.0, rho) * (ret - q.item()) * v
            c = min(1.0, rho ** (1 / 2))
            ret, opc = c * (ret - q.item()) + v.item(), (opc - q.item()) + v.item()
    assert 0 < active < 20
    (loss / 20).backward()
    algorithm.update(agent, algorithm.optimizers(agent), data, Alone(torch.Generator().manual_seed(7)))
    for (name, p), other in zip(agent.now.named_parameters(), now.parameters(), strict=True):
        if "log_std" not in name:
            torch.testing.assert_close(p.grad, other.grad, atol=1e-5, rtol=1e-4, msg=name)


def test_the_deviation_is_fixed_and_its_average_follows(seeded):
    """std is a share of half the Box's width; where that is infinite, of the action's own units."""
    half_open = gym.spaces.Box(np.array([-2.0, -np.inf], np.float32), np.array([2.0, np.inf], np.float32))
    algorithm = ACERContinuous(std=0.5, decay=0.8)
    agent = algorithm.build(OBS, half_open)
    optimizers, world = algorithm.optimizers(agent), Alone(torch.Generator().manual_seed(0))
    expected = [p.clone() for p in agent.average.parameters()]
    for seed in range(3):
        algorithm.update(agent, optimizers, sequences(4, 3, seed), world)
        now = agent.now.actor.parameters()
        expected = [0.8 * x + 0.2 * p.detach() for x, p in zip(expected, now, strict=True)]
    for p, x in zip(agent.average.parameters(), expected, strict=True):
        torch.testing.assert_close(p, x)
    torch.testing.assert_close(agent.now.actor.policy.log_std.exp().detach(), torch.tensor([1.0, 0.5]))


def test_discrete_actions_are_sent_to_acer():
    with pytest.raises(ValueError, match=r"Discrete\(3\)\.$"):
        ACERContinuous().build(OBS, gym.spaces.Discrete(3))
