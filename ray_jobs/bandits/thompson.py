"""Thompson sampling: each arm with the posterior probability that it is the best one.

System: Thompson sampling
Source: Thompson 1933; Chapelle & Li 2011, algorithm 2 (Beta posterior); Agrawal & Goyal 2013, arXiv:1209.3353, section 3 (Gaussian).
Differs: Gaussian arms have a flat prior and their known deviation, so that each is pulled once first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ray_jobs.bandits.arms import Array
from ray_jobs.bandits.exact import beta_above
from ray_jobs.bandits.policies import Seen, drawn, greedy
from ray_jobs.bandits.simulation import Simulated
from ray_jobs.recipe.ranges import Count, NotNegative


@dataclass(frozen=True)
class Thompson(Simulated):
    """The arm with the largest mean among means that are drawn from the posteriors, with a uniform prior."""

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

    exact_until = 40

    def odds(self, seen: Seen) -> Array:
        """See `Policy.odds`; of two arms with rewards 0 or 1.

        Raises:
            NotImplementedError: there are more arms, or their rewards are Gaussian.
        """
        if seen.deviation or seen.counts.shape[-1] != 2:
            raise NotImplementedError("the probability that an arm's draw is the largest has no closed form here")
        good, bad = 1 + seen.sums, 1 + seen.counts - seen.sums
        first = beta_above(good[..., 0], bad[..., 0], good[..., 1], bad[..., 1])
        return np.stack([first, 1 - first], -1)

    def choose(self, seen: Seen, rng: np.random.Generator) -> NDArray[np.int64]:
        """See `Policy.choose`."""
        if not seen.deviation:
            return rng.beta(1 + seen.sums, 1 + seen.counts - seen.sums).argmax(-1)
        spread = seen.deviation / np.sqrt(np.maximum(seen.counts, 1))
        draws = rng.normal(seen.means, spread)
        return drawn(greedy(np.where(seen.counts > 0, draws, np.inf)), rng)
