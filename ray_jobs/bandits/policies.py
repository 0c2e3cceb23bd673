"""What policies of bandits have in common: what they see, what they are, and choices from probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ray_jobs.bandits.arms import Array


@dataclass(frozen=True)
class Seen:
    """What a policy knows before a pull; a shape [..., K] holds any number of runs."""

    counts: Array
    """Pulls of each arm [..., K]."""
    sums: Array
    """Rewards of each arm, summed [..., K]."""
    pulls: int | NDArray[np.int64]
    """Pulls so far, of all arms together: a number, or one for each run [R, 1]."""
    deviation: float
    """Of Gaussian rewards; 0: rewards are between 0 and 1."""

    @property
    def means(self) -> Array:
        """The mean reward of each arm [..., K]; 0 where it was never pulled."""
        return self.sums / np.maximum(self.counts, 1)


class Policy(Protocol):
    """Chooses an arm for each run."""

    def odds(self, seen: Seen) -> Array:
        """The probability of each arm [..., K].

        Raises:
            NotImplementedError: it has no closed form.
        """
        ...

    def choose(self, seen: Seen, rng: np.random.Generator) -> NDArray[np.int64]:
        """An arm [R] for each run."""
        ...


def greedy(index: Array) -> Array:
    """The probability of each arm [..., K] that has the largest index [..., K], where ties are broken at random."""
    best = (index == index.max(-1, keepdims=True)).astype(np.float64)
    return best / best.sum(-1, keepdims=True)


def drawn(odds: Array, rng: np.random.Generator) -> NDArray[np.int64]:
    """An arm [R] for each row of probabilities [R, K]."""
    edges = odds.cumsum(-1)
    return (edges <= rng.random(len(odds))[:, None] * edges[:, -1:]).sum(-1)
