"""What the deterministic methods' tests share: spaces, a batch, and networks evaluated one row at a time in float64."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from ray_jobs.rl.contract import Transitions
from ray_jobs.rl.networks.agents import Deterministic
from ray_jobs.rl.networks.critics import Ensemble

OBS = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
BOX = gym.spaces.Box(np.float32([-2.0, 1.0]), np.float32([2.0, 5.0]))


def batch(n: int, seed: int = 0) -> Transitions:
    """Random steps; every third ends its task, and discounts and weights are all different."""
    rng = torch.Generator().manual_seed(seed)
    low, high = torch.from_numpy(BOX.low), torch.from_numpy(BOX.high)
    discount = 0.99 * torch.rand(n, generator=rng)
    discount[::3] = 0
    return Transitions(
        torch.randn(n, 3, generator=rng),
        low + (high - low) * torch.rand(n, 2, generator=rng),
        torch.randn(n, generator=rng),
        torch.randn(n, 3, generator=rng),
        discount,
        torch.rand(n, generator=rng),
        {},
    )


def numbers(x: Tensor) -> np.ndarray:
    return x.detach().double().numpy()


def action(actor: Deterministic, obs: Tensor) -> np.ndarray:
    """mu(obs [O]), [A]."""
    x = numbers(obs)
    layers = [m for m in actor.net if isinstance(m, nn.Linear)]
    for layer in layers:
        x = numbers(layer.weight) @ x + numbers(layer.bias)
        x = x if layer is layers[-1] else np.maximum(x, 0)
    return (BOX.low + BOX.high) / 2 + (BOX.high - BOX.low) / 2 * np.tanh(x)


def critic(critics: Ensemble, i: int, obs: Tensor, action: np.ndarray | Tensor) -> np.ndarray:
    """What member i says of obs [O] and action [A]: [outputs]. It sees [1, 5] as [-1, 1], and [-2, 2] as it is."""
    x = np.concatenate([numbers(obs), (np.asarray(action, np.float64) - [0.0, 3.0]) / [1.0, 2.0]])
    for k, (w, b) in enumerate(zip(critics.weights, critics.biases, strict=True)):
        x = x @ numbers(w[i]) + numbers(b[i, 0])
        x = x if k == len(critics.weights) - 1 else np.maximum(x, 0)
    return x


def copies(module: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def same(module: nn.Module, before: list[Tensor]) -> bool:
    return all(torch.equal(p, q) for p, q in zip(module.parameters(), before, strict=True))


def chained(actor: Deterministic, slope: Tensor, obs: Tensor) -> Tensor:
    """[P]: the mean over rows of (d mu / d theta)' slope [N, A], one row and one action at a time."""
    parameters, total = list(actor.parameters()), 0.0
    for row, x in zip(slope, obs, strict=True):
        for j in range(len(row)):
            found = torch.autograd.grad(actor(x[None])[0, j], parameters)
            total = total + row[j] * torch.cat([g.flatten() for g in found])
    return total / len(obs)


def regressed(critics: Ensemble, error: Tensor, data: Transitions) -> Tensor:
    """[P]: the gradient of the mean over rows of half the sum over members of error^2 [n, N], one row and one member at a time."""
    parameters, total = list(critics.parameters()), 0.0
    for i in range(error.shape[1]):
        for k in range(len(error)):
            found = torch.autograd.grad(critics(data.obs[i : i + 1], data.action[i : i + 1])[k, 0], parameters)
            total = total + error[k, i] * torch.cat([g.flatten() for g in found])
    return total / error.shape[1]


def started(algorithm, seed: int = 0):
    """Agent and optimisers; the slow copies are apart from the networks."""
    torch.manual_seed(seed)
    agent = algorithm.build(OBS, BOX)
    with torch.no_grad():
        for p in (*agent.slow_actor.parameters(), *agent.slow_critics.parameters()):
            p.add_(0.3 * torch.randn(p.shape))
    return agent, algorithm.optimizers(agent)
