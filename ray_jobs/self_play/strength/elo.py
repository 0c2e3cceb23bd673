"""Elo ratings by maximum likelihood, and intervals by resampling openings.

Source: Elo 1978 (a player of rating d above another scores 1 / (1 + 10^(-d / 400))); Bradley & Terry 1952 (maximum likelihood).
Differs: a draw counts as half a win and half a loss; every pair that has met has one more game, drawn, so that ratings stay finite.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ray_jobs.self_play.search import Array

SCALE = 400 / np.log(10)
"""Elo for each unit of log odds."""
STEP = 2.0
"""The most that one step of Newton's method moves a rating, in log odds."""
RESAMPLED = 200
"""Draws of openings for an interval."""


class Rating(NamedTuple):
    """A rating with its 95% interval."""

    elo: float
    low: float
    high: float


def expected(difference: Array) -> Array:
    """The score of a player who is rated so much higher, in Elo."""
    return 1 / (1 + np.exp(-np.asarray(difference, float) / SCALE))


def ratings(points: Array, games: Array) -> Array:
    """Maximum-likelihood ratings [*, P] of players who have met each other; the first player's is 0.

    Args:
        points: of player i against player j [*, P, P], a draw counting half; points_ij + points_ji = games_ij.
        games: [*, P, P], symmetric; connected.
    """
    met = games > 0
    points, games = points + 0.5 * met, games + met
    log_odds = np.zeros(points.shape[:-1])
    every = np.arange(1, points.shape[-1])
    for _ in range(200):
        p = 1 / (1 + np.exp(log_odds[..., None, :] - log_odds[..., :, None]))
        slope = (points - games * p).sum(-1)
        weight = games * p * (1 - p)
        curve = np.eye(points.shape[-1]) * weight.sum(-1)[..., None, :] - weight
        step = np.linalg.solve(curve[..., 1:, 1:], slope[..., 1:, None])[..., 0]
        log_odds[..., every] += np.clip(step, -STEP, STEP)
        if np.abs(step).max() < 1e-10:
            break
    return log_odds * SCALE


def against(points: Array, games: Array, anchors: Array) -> Array:
    """The maximum-likelihood rating [*] of a player against others whose ratings are fixed, all [*, A]."""
    met = games > 0
    points, games, log_odds = points + 0.5 * met, games + met, np.zeros(points.shape[:-1])
    for _ in range(200):
        p = expected(log_odds[..., None] * SCALE - anchors)
        step = (points - games * p).sum(-1) / (games * p * (1 - p)).sum(-1)
        log_odds = log_odds + np.clip(step, -STEP, STEP)
        if np.abs(step).max() < 1e-10:
            break
    return log_odds * SCALE


def rated(ladder: Array, points: Array, rng: np.random.Generator) -> tuple[Rating, Array]:
    """The rating of a player by its games against anchors, and the anchors' own [A]; the first anchor's rating is 0.

    The interval comes from openings drawn again with replacement, the same ones for all pairs.

    Args:
        ladder: points of anchor i against anchor j in the two games from each opening [A, A, n, 2].
        points: of the player against each anchor [A, n, 2].
    """
    n = points.shape[1]
    rows: NDArray[np.int64] = np.concatenate([np.arange(n)[None], rng.integers(n, size=(RESAMPLED, n))])
    among, ours = (np.moveaxis(x.sum(-1)[..., rows].sum(-1), -1, 0) for x in (ladder, points))
    games = 2.0 * n * (1 - np.eye(len(ladder)))
    anchors = ratings(among, np.broadcast_to(games, among.shape))
    found = against(ours, np.full(ours.shape, 2.0 * n), anchors)
    low, high = np.quantile(found[1:], [0.025, 0.975])
    return Rating(float(found[0]), float(low), float(high)), anchors[0]
