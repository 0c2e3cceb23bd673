"""Perceptrons of many members at once, in numpy: workers need no torch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ray_jobs.evolution.noise import Array, generator, size_of


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
