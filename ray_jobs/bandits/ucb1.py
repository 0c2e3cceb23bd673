"""UCB1: the arm with the largest upper confidence bound of Hoeffding's inequality.

System: UCB1
Source: Auer et al. 2002, doi:10.1023/A:1013689704352, figure 1 and theorem 1.
Differs: Gaussian rewards have the bound of their own deviation s in place of 1/2, that of rewards in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ray_jobs.bandits.arms import Array
from ray_jobs.bandits.policies import Seen, drawn, greedy
from ray_jobs.bandits.simulation import Simulated
from ray_jobs.recipe.ranges import Count, NotNegative


@dataclass(frozen=True)
class UCB1(Simulated):
    """Each arm once, then the arm with the largest mean + sqrt(2 ln n / n_j), after n pulls, n_j of them of arm j."""

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

    def odds(self, seen: Seen) -> Array:
        """See `Policy.odds`."""
        deviation = seen.deviation or 0.5
        bonus = np.sqrt(8 * deviation**2 * np.log(np.maximum(seen.pulls, 1)) / np.maximum(seen.counts, 1))
        return greedy(np.where(seen.counts > 0, seen.means + bonus, np.inf))

    def choose(self, seen: Seen, rng: np.random.Generator) -> NDArray[np.int64]:
        """See `Policy.choose`."""
        return drawn(self.odds(seen), rng)
