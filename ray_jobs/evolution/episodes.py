"""Whole episodes of many members at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ray_jobs.envs.steps import VectorEnv
from ray_jobs.evolution.networks import Network, actions
from ray_jobs.evolution.noise import Array


class Seen(NamedTuple):
    """How many observations were seen, their sum and the sum of their squares, for each dimension."""

    number: float
    total: Array
    squares: Array

    @classmethod
    def of(cls, flat: Array) -> Seen:
        """From one array [1 + 2 n], as it travels and is kept."""
        total, squares = np.split(flat[1:], 2)
        return cls(float(flat[0]), total, squares)

    @property
    def flat(self) -> Array:
        """All of it as one array [1 + 2 n]."""
        return np.concatenate([[self.number], self.total, self.squares])

    def __add__(self, other: object) -> Seen:
        assert isinstance(other, Seen)
        return Seen(self.number + other.number, self.total + other.total, self.squares + other.squares)

    @property
    def scale(self) -> tuple[Array, Array]:
        """Mean, and deviation of at least 0.01; of fewer than two observations 0 and 1."""
        if self.number < 2:
            return np.zeros_like(self.total), np.ones_like(self.total)
        mean = self.total / self.number
        return mean, np.sqrt(np.maximum(self.squares / self.number - mean**2, 1e-4))


class Played(NamedTuple):
    """Episodes of M members."""

    returns: Array
    """[M]: the mean over each member's episodes."""
    steps: int
    """Environment steps of all episodes."""
    seen: Seen
    """The observations of all episodes."""


def play(
    network: Network,
    env: VectorEnv,
    seeds: Sequence[int],
    episodes: int,
    limit: int,
    before: Seen | None = None,
) -> Played:
    """Play each member's episodes, side by side; a row whose episode is over waits for the others.

    Args:
        network: of M members.
        env: of M * episodes rows, a member's next to each other.
        seeds: one for each row.
        limit: steps after which an episode is cut; 0: only the environment cuts.
        before: observations are shifted and scaled by its mean and deviation.
    """
    obs, rows, length = env.reset(seeds), len(seeds), 0
    mean, deviation = before.scale if before else (0.0, 1.0)
    running, returns, steps = np.ones(rows, bool), np.zeros(rows), 0
    width, members = obs.reshape(rows, -1).shape[1], rows // episodes
    seen = Seen.of(np.zeros(1 + 2 * width))
    while running.any() and (not limit or length < limit):
        flat = obs.reshape(rows, -1).astype(float)
        shown = flat[running]
        seen = seen + Seen(float(len(shown)), shown.sum(0), (shown**2).sum(0))
        out = network(((flat - mean) / deviation).reshape(members, episodes, width))
        result = env.step(actions(out.reshape(rows, -1), env.action_space))
        returns[running] += result.gained[running]
        steps, length = steps + len(shown), length + 1
        obs, ended = result.obs, result.boundary
        running &= ~ended
        if ended.any():
            obs = env.restart(ended)
    return Played(returns.reshape(members, episodes).mean(1), steps, seen)
