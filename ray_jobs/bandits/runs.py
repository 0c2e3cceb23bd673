"""Runs as the rows of arrays: parts of them, moments over them, and the times at which these are recorded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ray_jobs.bandits.arms import Array
from ray_jobs.recipe.process import State

SHARD = 1_000
"""Runs that are computed together."""
PER_DECADE = 20
"""Times at which the curve is recorded, of each power of ten; until `ALL_UNTIL` each pull is one."""
ALL_UNTIL = 100
NORMAL_95 = 1.959964
"""The 97.5% quantile of the standard normal law."""


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared distances to the mean of values of runs, at each of P times."""

    count: int
    mean: Array
    squares: Array

    @classmethod
    def of(cls, values: Array) -> Moments:
        """Those of values [P, R]."""
        mean = values.mean(1)
        return cls(values.shape[1], mean, np.square(values - mean[:, None]).sum(1))

    def __add__(self, other: Moments) -> Moments:
        """Those of both sets of runs together; Chan et al. 1983, eq. 2.1."""
        n, apart = self.count + other.count, other.mean - self.mean
        mean = self.mean + apart * other.count / n
        return Moments(n, mean, self.squares + other.squares + apart**2 * self.count * other.count / n)

    @property
    def error(self) -> Array:
        """The standard error of the mean [P]; NaN of one run."""
        n = self.count
        return np.sqrt(self.squares / (n * (n - 1))) if n > 1 else np.full_like(self.squares, np.nan)


@dataclass(frozen=True)
class Part:
    """The runs of one shard: what their policy has seen, and their regret so far."""

    first: int
    """Number of the first run."""
    counts: Array
    sums: Array
    regret: Array


def shards(state: State) -> Iterable[Part]:
    """The runs in parts of `SHARD`."""
    for first in range(0, len(state["regret"]), SHARD):
        rows = slice(first, first + SHARD)
        yield Part(first, state["counts"][rows], state["sums"][rows], state["regret"][rows])


def recorded(before: int, after: int) -> NDArray[np.int64]:
    """The pulls in (before, after] at which the curve is recorded; the last is one of them."""
    found = np.arange(before + 1, after + 1)
    tens = PER_DECADE * np.log10(found)
    new = np.floor(tens) > np.floor(PER_DECADE * np.log10(np.maximum(found - 1, 1)))
    return found[(found <= ALL_UNTIL) | new | (found == after)]
