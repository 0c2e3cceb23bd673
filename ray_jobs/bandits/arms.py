"""The arms of a bandit, whose rewards are a function of (seed, run, arm, pull), so that policies are compared on the same rewards."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Array = NDArray[np.float64]
Keys = NDArray[np.uint64]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def mixed(x: Keys) -> Keys:
    """A bijection of 64-bit numbers that scatters them: the output function of SplitMix64.

    Source: Steele, Lea & Flood 2014, doi:10.1145/2660193.2660195, figure 14, with the constants of variant 13 of Stafford.
    """
    x = (x ^ (x >> np.uint64(30))) * FIRST
    x = (x ^ (x >> np.uint64(27))) * SECOND
    return x ^ (x >> np.uint64(31))


def keys(seed: int, first: int, runs: int) -> Keys:
    """A key [runs] for each of the runs from number `first` on."""
    numbers = np.arange(first, first + runs, dtype=np.uint64)
    return mixed(mixed(np.array([seed % 2**63], np.uint64)) + GOLDEN * (numbers + np.uint64(1)))


def uniform(keys: Keys, counter: NDArray[np.int64]) -> Array:
    """Uniform numbers [R] in (0, 1), a function of key [R] and counter [R]."""
    bits = mixed(keys + GOLDEN * (counter.astype(np.uint64) + np.uint64(1)))
    return ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


@dataclass(frozen=True)
class Arms:
    """K arms: Bernoulli rewards, or Gaussian ones of one known deviation."""

    means: tuple[float, ...]
    deviation: float = 0.0
    """Of Gaussian rewards; 0: rewards are 0 or 1."""

    @property
    def gaps(self) -> Array:
        """What each arm's mean lacks to the best one [K]."""
        return max(self.means) - np.array(self.means)

    def rewards(self, keys: Keys, arm: NDArray[np.int64], pull: NDArray[np.int64]) -> Array:
        """Rewards [R] of pull number `pull` [R], counted from 0, of an arm [R] in the runs with these keys [R]."""
        u, mean = uniform(keys, pull * len(self.means) + arm), np.array(self.means)[arm]
        return mean + self.deviation * ndtri(u) if self.deviation else (u < mean).astype(np.float64)


def read_arms(means: str, deviation: float) -> Arms:
    """Arms of a list of means, such as '0.6,0.4'.

    Raises:
        ValueError: there are fewer than two, an entry is no number, or the mean of 0-1 rewards is not between 0 and 1; one sentence.
    """
    try:
        found = tuple(float(part) for part in means.split(","))
    except ValueError:
        raise ValueError(f"--means takes numbers with commas between them, such as 0.6,0.4, not '{means}'.") from None
    if len(found) < 2 or not all(map(math.isfinite, found)):
        raise ValueError(f"--means takes two finite numbers or more, such as 0.6,0.4, not '{means}'.")
    if not deviation and not all(0 <= mean <= 1 for mean in found):
        raise ValueError(
            f"The means of rewards that are 0 or 1 are between 0 and 1, and --means is '{means}': change it, or give "
            "--deviation for Gaussian rewards."
        )
    return Arms(found, deviation)
