"""Steps that nobody played, and small agents to learn from them, in double precision."""

import gymnasium as gym
import numpy as np
import torch

from ray_jobs.rl.contract import Alone, Steps

OBS = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
SPACES = {
    "discrete": gym.spaces.Discrete(3),
    "multi": gym.spaces.MultiDiscrete([2, 3]),
    "box": gym.spaces.Box(-2.0, 2.0, (2,), np.float32),
}


def built(algorithm, action, obs=OBS, seed=0):
    """An agent in double precision, its last layers as large as its first: tiny ones would hide what is wrong."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        agent = algorithm.build(obs, action).double()
        for p in agent.parameters():
            p.data += 0.3 * torch.randn_like(p)
    return agent


def alone(seed=0):
    return Alone(torch.Generator().manual_seed(seed))


def invented(action, T=6, B=4, seed=0, shape=(2,), extras=None):
    """Steps [T, B] of which about a fifth terminate and a fifth are cut."""
    rng = torch.Generator().manual_seed(seed)
    obs, last = (torch.randn(*n, *shape, generator=rng, dtype=torch.float64) for n in ((T + 1, B), (T * B,)))
    fate = torch.rand(T, B, generator=rng)
    cut = (fate > 0.2) & (fate < 0.4)
    if isinstance(action, gym.spaces.Box):
        done = torch.randn(T, B, *action.shape, generator=rng, dtype=torch.float64)
    else:
        sizes = getattr(action, "nvec", [getattr(action, "n", 0)])
        done = torch.stack([torch.randint(int(n), (T, B), generator=rng) for n in sizes], -1)
        done = done if action.shape else done[..., 0]
    reward = torch.randn(T, B, generator=rng, dtype=torch.float64)
    return Steps(obs, done, reward, fate < 0.2, cut, last[: int(cut.sum())], extras or {})


def columns(data, those):
    """The steps of some environments."""
    mine = torch.zeros_like(data.truncated)
    mine[:, those] = True
    rest = {k: x[:, those] for k, x in data.extras.items()}
    kept = mine[data.truncated]
    return Steps(*(x[:, those] for x in data[:5]), data.last_obs[kept], rest)


def advantages(data, value, gamma, lam):
    """GAE [T, B] as a double sum over time, environment by environment; `value` is a function of observations [N, *O]."""
    T, B = data.reward.shape
    out, v = torch.zeros_like(data.reward), value(data.obs.flatten(0, 1)).view(T + 1, B)
    number = {tuple(at): k for k, at in enumerate(data.truncated.nonzero().tolist())}
    for b in range(B):
        delta = []
        for t in range(T):
            after = value(data.last_obs[number[t, b]][None])[0] if (t, b) in number else v[t + 1, b]
            delta.append(data.reward[t, b] + (0 if data.terminated[t, b] else gamma * after) - v[t, b])
        for t in range(T):
            for later in range(t, T):
                out[t, b] += (gamma * lam) ** (later - t) * delta[later]
                if data.boundary[later, b]:
                    break
    return out.detach(), v[:-1].detach()


def standardised(x):
    return (x - x.mean()) / (x.std(correction=0) + 1e-8)
