"""Exact values for bandits: the expected regret of a policy of two arms, the least Bayes regret, and what no policy beats in the limit."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln

from ray_jobs.bandits.arms import Arms, Array
from ray_jobs.bandits.policies import Policy, Seen


def expected_regret(policy: Policy, arms: Arms, pulls: int) -> Array:
    """The expected regret [pulls] after 1, 2, ... pulls of two arms with rewards 0 or 1, by summing over all that can be seen.

    The distribution of (pulls of arm 1, its successes, successes of arm 2) is moved forward pull by pull: about pulls^4 / 4 terms.

    Raises:
        ValueError: there are not two such arms.
        NotImplementedError: the policy's probabilities have no closed form.
    """
    if len(arms.means) != 2 or arms.deviation:
        raise ValueError("The exact regret is that of two arms with rewards 0 or 1.")
    (p, q), gaps = arms.means, arms.gaps
    law, found = np.ones((1, 1, 1)), np.empty(pulls)
    for t in range(pulls):
        counts, sums, possible = _all_seen(t)
        odds = np.zeros((*law.shape, 2))
        odds[possible] = policy.odds(Seen(counts[possible], sums[possible], t, 0.0))
        one, two = law * odds[..., 0], law * odds[..., 1]
        found[t] = one.sum() * gaps[0] + two.sum() * gaps[1]
        law = np.zeros((t + 2, t + 2, t + 2))
        law[1:, 1:, :-1] += p * one
        law[1:, :-1, :-1] += (1 - p) * one
        law[:-1, :-1, 1:] += q * two
        law[:-1, :-1, :-1] += (1 - q) * two
    return found.cumsum()


def _all_seen(t: int) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Counts and sums of two arms after t pulls, each [t + 1, t + 1, t + 1, 2], and which of these can be [t + 1, t + 1, t + 1]."""
    n, s, r = np.meshgrid(*[np.arange(t + 1.0)] * 3, indexing="ij")
    return np.stack([n, t - n], -1), np.stack([s, r], -1), (s <= n) & (r <= t - n)


def beta_above(a: Array, b: Array, c: Array, d: Array) -> Array:
    """P(X > Y) of independent X ~ Beta(a, b) and Y ~ Beta(c, d), arrays of one shape of whole numbers, by a finite sum over a.

    X > Y with the probability sum over i < a of B(c + i, b + d) / ((b + i) B(1 + i, b) B(c, d)).
    """
    total = np.zeros(np.broadcast_shapes(a.shape, b.shape, c.shape, d.shape))
    for i in range(int(a.max())):
        term = np.exp(betaln(c + i, b + d) - betaln(1.0 + i, b) - betaln(c, d)) / (b + i)
        total += np.where(i < a, term, 0.0)
    return total


@functools.cache
def least_bayes_regret(pulls: int) -> float:
    """The least regret after so many pulls, on average over two arms with rewards 0 or 1 whose means are uniform: no policy has less.

    The best policy is found by backward induction over all that can be seen; the larger of two uniform means is 2/3 on average.
    """
    value = np.zeros((pulls + 1, pulls + 1, pulls + 1))
    for t in range(pulls - 1, -1, -1):
        counts, sums, _ = _all_seen(t)
        p = (1 + sums) / (2 + counts)
        one = p[..., 0] * (1 + value[1:, 1:, :-1]) + (1 - p[..., 0]) * value[1:, :-1, :-1]
        two = p[..., 1] * (1 + value[:-1, :-1, 1:]) + (1 - p[..., 1]) * value[:-1, :-1, :-1]
        value = np.maximum(one, two)
    return pulls * 2 / 3 - float(value[0, 0, 0])


def divergence(mean: float, best: float, deviation: float) -> float:
    """The Kullback-Leibler divergence in nats of the rewards of an arm to those of the best arm."""
    if deviation:
        return (best - mean) ** 2 / (2 * deviation**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.array([mean * np.log(mean / best), (1 - mean) * np.log((1 - mean) / (1 - best))])
    return float(np.where([mean == 0, mean == 1], 0.0, parts).sum())


def lai_robbins(arms: Arms) -> float:
    """The least growth of the regret for each unit of ln T, in the limit, of a policy that is good for all arms of this kind.

    Source: Lai & Robbins 1985, doi:10.1016/0196-8858(85)90002-8, theorem 1. It says nothing about a finite number of pulls.
    """
    best = max(arms.means)
    return sum(
        gap / divergence(mean, best, arms.deviation) for mean, gap in zip(arms.means, arms.gaps, strict=True) if gap
    )


def ucb1_bound(arms: Arms, pulls: int) -> float:
    """The bound of UCB1's regret after so many pulls: Auer et al. 2002, theorem 1."""
    gaps = arms.gaps[arms.gaps > 0]
    return float(8 * np.log(pulls) * (1 / gaps).sum() + (1 + np.pi**2 / 3) * gaps.sum())
