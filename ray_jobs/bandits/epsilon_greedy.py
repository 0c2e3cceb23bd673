"""Epsilon-greedy: a random arm with probability epsilon, else the arm with the best mean so far.

System: Epsilon-greedy
Source: Sutton & Barto 2018, sections 2.2 and 2.6; Auer et al. 2002, doi:10.1023/A:1013689704352, figure 3 (epsilon that falls).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ray_jobs.bandits.arms import Array
from ray_jobs.bandits.policies import Seen, drawn, greedy
from ray_jobs.bandits.simulation import Simulated
from ray_jobs.recipe.ranges import Count, Finite, Fraction, NotNegative, Share


@dataclass(frozen=True)
class EpsilonGreedy(Simulated):
    """A random arm with probability epsilon, or min(1, decay K / (least_gap^2 n)) after n pulls, else the best one so far."""

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
    epsilon: Share = 0.1
    """Probability of a random arm."""
    decay: NotNegative = 0.0
    """The constant c of an epsilon that falls; 0: `epsilon` stays."""
    least_gap: Fraction = 0.2
    """The constant d of an epsilon that falls: at most the smallest gap between the best mean and another."""
    optimistic: Finite = 1.0
    """What the mean of an arm is taken for until it is pulled."""

    def odds(self, seen: Seen) -> Array:
        """See `Policy.odds`."""
        arms = seen.counts.shape[-1]
        estimates = np.where(seen.counts > 0, seen.means, self.optimistic)
        falling = self.decay * arms / (self.least_gap**2 * np.maximum(seen.pulls, 1))
        epsilon = np.minimum(1.0, falling) if self.decay else self.epsilon
        return (1 - epsilon) * greedy(estimates) + epsilon / arms

    def choose(self, seen: Seen, rng: np.random.Generator) -> NDArray[np.int64]:
        """See `Policy.choose`."""
        return drawn(self.odds(seen), rng)
