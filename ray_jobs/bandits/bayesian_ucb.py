"""Bayesian UCB: the arm whose posterior mean reward has the largest upper quantile.

System: Bayesian UCB
Source: Kaufmann et al. 2012, "On Bayesian Upper Confidence Bounds for Bandit Problems", algorithm 1, with c = 0 as in its experiments;
`rule` 'deviations' is that of the survey's own code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri

from ray_jobs.bandits.arms import Array
from ray_jobs.bandits.policies import Seen, drawn, greedy
from ray_jobs.bandits.simulation import Simulated
from ray_jobs.recipe.ranges import Count, NotNegative, Positive


@dataclass(frozen=True)
class BayesianUCB(Simulated):
    """The arm with the largest quantile 1 - 1/t of its posterior at pull t, with a uniform prior."""

    means: str = "0.6,0.4"
    """Mean rewards of the arms."""
    deviation: NotNegative = 0.0
    """Deviation of Gaussian rewards; 0: rewards are 0 or 1."""
    data: str = ""
    """CSV file with the columns arm and reward, of arms that were chosen at random: the policy is evaluated on it, in place of `means`."""
    runs: Count = 10_000
    """Runs at once."""
    block: Count = 100
    """Pulls in one step of the study."""
    rule: Literal["quantile", "deviations"] = "quantile"
    """The upper bound: a quantile, or so many deviations of the posterior above its mean."""
    deviations: Positive = 3.0
    """Deviations of the posterior, for that rule."""

    def odds(self, seen: Seen) -> Array:
        """See `Policy.odds`."""
        level = 1 - 1 / (seen.pulls + 1)
        if seen.deviation:
            width = ndtri(level) if self.rule == "quantile" else self.deviations
            bound = seen.means + width * seen.deviation / np.sqrt(np.maximum(seen.counts, 1))
            return greedy(np.where(seen.counts > 0, bound, np.inf))
        good, bad = 1 + seen.sums, 1 + seen.counts - seen.sums
        if self.rule == "quantile":
            return greedy(beta_quantile(good, bad, np.broadcast_to(level, good.shape)))
        both = good + bad
        return greedy(good / both + self.deviations * np.sqrt(good * bad / (both**2 * (both + 1))))

    def choose(self, seen: Seen, rng: np.random.Generator) -> NDArray[np.int64]:
        """See `Policy.choose`."""
        return drawn(self.odds(seen), rng)


def beta_quantile(a: Array, b: Array, level: Array) -> Array:
    """The quantile of Beta(a, b), arrays of one shape; many runs have seen the same, and what is equal is computed once."""
    several, where = np.unique(np.stack([a.ravel(), b.ravel(), level.ravel()]), axis=1, return_inverse=True)
    return betaincinv(*several)[where.ravel()].reshape(a.shape)
