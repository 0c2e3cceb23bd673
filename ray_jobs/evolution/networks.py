"""Perceptrons of many members at once, in numpy: workers need no torch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from itertools import pairwise

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ray_jobs.evolution.noise import Array, LowRank, low_rank, perturbation, size_of
from ray_jobs.recipe.process import generator

Network = Callable[[Array], Array]
"""Outputs [M, E, n] of M perceptrons for observations [M, E, *] of E episodes of each."""


def begin(seed: int, sizes: Sequence[int]) -> Array:
    """Initial weights of one perceptron: normal, of deviation 1 / sqrt(inputs) and a hundredth of that in the last layer; no biases."""
    rng, parts = generator(seed, 2**62), []
    for layer, (a, b) in enumerate(pairwise(sizes)):
        gain = 0.01 if layer == len(sizes) - 2 else 1.0
        parts += [(rng.standard_normal((a, b)) * gain / a**0.5).ravel(), np.zeros(b)]
    return np.concatenate(parts)


def outputs(weights: Array, x: Array, sizes: Sequence[int]) -> Array:
    """Outputs [M, E, sizes[-1]] of M perceptrons with tanh: weights [M, P], inputs [M, E, sizes[0]]."""
    at = 0
    for layer, (a, b) in enumerate(pairwise(sizes)):
        matrix, bias = weights[:, at : at + a * b].reshape(-1, a, b), weights[:, at + a * b : at + (a + 1) * b]
        x = x @ matrix + bias[:, None, :]
        x = np.tanh(x) if layer < len(sizes) - 2 else x
        at += (a + 1) * b
    assert at == size_of(sizes)
    return x


def outputs_near(theta: Array, noise: Sequence[LowRank], scale: float, x: Array, sizes: Sequence[int]) -> Array:
    """Outputs [M, E, sizes[-1]] of M perceptrons that differ from one by `scale` times a perturbation of low rank each.

    As `outputs` of theta + scale * e, but x W is one product for all members, and no member's weights are written out.

    Args:
        theta: [P]
        noise: of the M members in each layer.
        x: [M, E, sizes[0]]
    """
    at = 0
    for layer, ((a, b), e) in enumerate(zip(pairwise(sizes), noise, strict=True)):
        matrix, bias = theta[at : at + a * b].reshape(a, b), theta[at + a * b : at + (a + 1) * b]
        own = (x @ e.left) @ e.right.transpose(0, 2, 1) / e.left.shape[-1] ** 0.5 + e.bias[:, None, :]
        x = (x.reshape(-1, a) @ matrix).reshape(*x.shape[:-1], b) + bias + scale * own
        x = np.tanh(x) if layer < len(sizes) - 2 else x
        at += (a + 1) * b
    return x


def mirrored(
    theta: Array, seed: int, generation: int, pairs: Sequence[int], sizes: Sequence[int], sigma: float, rank: int
) -> list[Network]:
    """Two networks: of the perceptrons theta + sigma e, for the direction e of each pair, and of those with theta - sigma e."""
    if rank:
        noise = low_rank(seed, generation, pairs, sizes, rank)
        return [functools.partial(outputs_near, theta, noise, scale, sizes=sizes) for scale in (sigma, -sigma)]
    e = sigma * np.stack([perturbation(seed, generation, pair, sizes) for pair in pairs])
    return [functools.partial(outputs, theta + sign * e, sizes=sizes) for sign in (1, -1)]


def actions(out: Array, space: gym.Space) -> NDArray:
    """Actions [*, *A] of outputs [*, n]: the largest of a Discrete space; in a bounded Box, the outputs through tanh between its bounds."""
    if isinstance(space, gym.spaces.Discrete):
        return out.argmax(-1) + space.start
    assert isinstance(space, gym.spaces.Box)
    out = out.reshape(*out.shape[:-1], *space.shape)
    if space.is_bounded():
        low, high = space.low.astype(float), space.high.astype(float)
        out = low + (high - low) * (np.tanh(out) + 1) / 2
    return out.astype(space.dtype)


def sizes_for(obs: gym.spaces.Box, action: gym.Space, hidden: Sequence[int]) -> list[int]:
    """Sizes of the layers for an environment.

    Raises:
        ValueError: the perceptron cannot see its observations, or take its actions; one sentence.
    """
    if len(obs.shape) == 3:
        raise ValueError(f"Evolution strategies here have perceptrons, which do not see pictures such as {obs.shape}.")
    if isinstance(action, gym.spaces.Discrete):
        return [int(np.prod(obs.shape)), *hidden, int(action.n)]
    if isinstance(action, gym.spaces.Box):
        return [int(np.prod(obs.shape)), *hidden, int(np.prod(action.shape))]
    raise ValueError(f"Evolution strategies need a Discrete or a Box action space, and this is {action}.")
