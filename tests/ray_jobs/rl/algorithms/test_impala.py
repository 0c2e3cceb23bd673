"""IMPALA's gradient against V-trace's own sums, for every kind of network and of action."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch

from ray_jobs.rl.algorithms.policy_gradient.impala import IMPALA
from tests.ray_jobs.rl.algorithms.invented import OBS, SPACES, alone, built, invented
from tests.ray_jobs.rl.gradients import gradient_of

IMAGE = gym.spaces.Box(0, 255, (1, 6, 6), np.uint8)


def targets(data, ratio, value, gamma, rho_max, c_max):
    """v_s of equation 1 and the policy gradient's advantages, [T, B], as sums over time, environment by environment."""
    (T, B), number = data.reward.shape, {tuple(at): k for k, at in enumerate(data.truncated.nonzero().tolist())}
    v = value(data.obs.flatten(0, 1)).view(T + 1, B)
    vs, advantage = torch.zeros_like(data.reward), torch.zeros_like(data.reward)
    for b in range(B):
        rho, c = ratio[:, b].clamp(max=rho_max), ratio[:, b].clamp(max=c_max)

        def after(t, b=b):
            if data.terminated[t, b]:
                return torch.zeros(())
            return value(data.last_obs[number[t, b]][None])[0] if (t, b) in number else v[t + 1, b]

        for s in range(T):
            trace, vs[s, b] = 1.0, v[s, b]
            for t in range(s, T):
                delta = rho[t] * (data.reward[t, b] + gamma * after(t) - v[t, b])
                vs[s, b] += gamma ** (t - s) * trace * delta
                trace = trace * c[t]
                if data.boundary[t, b]:
                    break
        for s in range(T):
            follows = vs[s + 1, b] if s + 1 < T and not data.boundary[s, b] else after(s)
            advantage[s, b] = rho[s] * (data.reward[s, b] + gamma * follows - v[s, b])
    return vs.detach(), advantage.detach()


@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("network", ["apart", "shared", "images"])
def test_its_gradient_is_of_the_sums(kind, network):
    algorithm = IMPALA(
        width=5,
        shared=network == "shared",
        rho_max=1.2,
        c_max=0.9,
        gamma=0.875,
        entropy_weight=0.2,
        max_norm=float("inf"),
    )
    obs = IMAGE if network == "images" else OBS
    agent, data = built(algorithm, SPACES[kind], obs), invented(SPACES[kind], shape=obs.shape)
    if network == "images":
        data = data._replace(obs=data.obs.abs() * 60, last_obs=data.last_obs.abs() * 60)
    before = copy.deepcopy(agent)
    logp = before.policy.log_prob(before.logits(data.obs[:-1]), data.action)
    noise = torch.randn(logp.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    data = data._replace(extras={"logp": logp.detach() + 0.3 * noise})
    algorithm.update(agent, algorithm.optimizers(agent), data, alone())
    vs, advantage = targets(data, (-0.3 * noise).exp(), before.value, 0.875, 1.2, 0.9)
    error = (before.value(data.obs[:-1]) - vs).square().mean()
    entropy = before.policy.entropy(before.logits(data.obs[:-1])).mean()
    (-(logp * advantage).mean() + 0.5 * error - 0.2 * entropy).backward()
    torch.testing.assert_close(gradient_of(agent), gradient_of(before))
