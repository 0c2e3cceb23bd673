"""What each worker holds: the weights after so many generations, rebuilt from the returns of all members.

Only returns travel, 16 bytes for a pair. A worker that is new, or that missed a generation, replays the returns from the seed on.
"""

from __future__ import annotations

import zlib
from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ray_jobs.evolution.episodes import Seen
from ray_jobs.evolution.networks import begin
from ray_jobs.evolution.noise import Array, low_rank, perturbation
from ray_jobs.evolution.shaping import SUMMED, adam, centred_ranks, estimate, low_rank_estimate


@dataclass(frozen=True)
class Rule:
    """All that decides how returns change the weights."""

    sizes: tuple[int, ...]
    seed: int
    sigma: float
    lr: float
    weight_decay: float
    rank: int
    shape: bool
    """Whether returns are ranked."""


class Scalars(NamedTuple):
    """What travels: the returns of the generations `first`, `first` + 1, ..."""

    first: int
    returns: Array
    """[G, pairs, 2], of theta + sigma e and theta - sigma e."""
    seen: Array
    """[G, 1 + 2 n]: count, sum and squares of the observations in the episodes of theta itself; [G, 0] where nobody needs them."""


@dataclass
class Weights:
    """The weights after `generation` generations, the optimiser's averages, and the observations seen by then."""

    generation: int
    theta: Array
    mean: Array
    square: Array
    seen: Seen | None = None

    @classmethod
    def begin(cls, rule: Rule, normalize: bool) -> Weights:
        """Before the first generation."""
        theta = begin(rule.seed, rule.sizes)
        seen = Seen.of(np.zeros(1 + 2 * rule.sizes[0])) if normalize else None
        return cls(0, theta, np.zeros_like(theta), np.zeros_like(theta), seen)

    def advance(self, rule: Rule, returns: Array, seen: Array) -> None:
        """One generation: go up the slope that its returns [pairs, 2] show, less the decay.

        Source: Salimans et al. 2017, arXiv:1703.03864, algorithm 2, lines 9 to 12; mirrored pairs, ranks and decay: section 2.1.
        """
        fitness = centred_ranks(returns) if rule.shape else returns
        if (fitness[:, 0] != fitness[:, 1]).any():  # else nothing was learned, and the weights stay
            slope = self.slope(rule, fitness) - rule.weight_decay * self.theta
            adam(self.theta, self.mean, self.square, slope, rule.lr, self.generation)
        if self.seen is not None:
            self.seen = self.seen + Seen.of(seen)
        self.generation += 1

    def slope(self, rule: Rule, fitness: Array) -> Array:
        """The estimate of this generation, with its pairs' directions drawn again."""
        at, pairs = (rule.seed, self.generation), range(len(fitness))
        if not rule.rank:
            return estimate(fitness, (perturbation(*at, pair, rule.sizes) for pair in pairs), rule.sigma)
        size = max(SUMMED // rule.rank, 1)
        parts = (pairs[first : first + size] for first in range(0, len(pairs), size))
        return low_rank_estimate(fitness, (low_rank(*at, part, rule.sizes, rule.rank) for part in parts), rule.sigma)

    def replay(self, rule: Rule, scalars: Scalars, until: int) -> bool:
        """Advance to generation `until`; whether the scalars reach from here to there."""
        while scalars.first <= self.generation < min(until, scalars.first + len(scalars.returns)):
            at = self.generation - scalars.first
            self.advance(rule, scalars.returns[at], scalars.seen[at])
        return self.generation == until

    @property
    def fingerprint(self) -> int:
        """A checksum of the weights: equal ones have been computed from the same returns, in the same way."""
        return zlib.crc32(self.theta.tobytes())


_held: dict[Hashable, Weights] = {}
"""The weights of the last run that this process computed for: a cache, which replaying the returns fills."""


def held(run: Hashable, rule: Rule, normalize: bool, scalars: Scalars, generation: int) -> Weights | None:
    """This process's weights at a generation; None where the scalars do not reach back far enough to compute them.

    Args:
        run: what decides every return of the run: all settings and the seed.
    """
    if run not in _held or _held[run].generation > generation:
        _held.clear()
        _held[run] = Weights.begin(rule, normalize)
    weights = _held[run]
    return weights if weights.replay(rule, scalars, generation) else None
