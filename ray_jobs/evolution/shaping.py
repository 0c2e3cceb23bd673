"""From returns to a gradient step: centred ranks, the estimate of mirrored pairs, Adam."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.stats import rankdata

from ray_jobs.evolution.noise import Array

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Of Adam: Kingma & Ba 2015, arXiv:1412.6980, algorithm 1."""


def centred_ranks(returns: Array) -> Array:
    """Ranks of all returns, of any shape, scaled to [-1/2, 1/2]; equal returns have their mean rank, so that all equal ones give 0.

    Source: Salimans et al. 2017, arXiv:1703.03864, section 2.1 (fitness shaping).
    Differs: the released code gives equal returns different ranks, and its step is then noise.
    """
    ranks = rankdata(returns.ravel()).reshape(returns.shape) - 1
    return ranks / max(returns.size - 1, 1) - 0.5


def estimate(fitness: Array, directions: Iterable[Array], sigma: float) -> Array:
    """The slope of the smoothed fitness by mirrored pairs: sum over pairs of (F+ - F-) e / (2 N sigma), summed in the order of pairs.

    Args:
        fitness: [N, 2] of theta + sigma e and theta - sigma e.
        directions: e of each pair.
    """
    total, weights = 0.0, (fitness[:, 0] - fitness[:, 1]) / (2 * len(fitness) * sigma)
    for weight, direction in zip(weights, directions, strict=True):
        total = total + weight * direction
    return np.asarray(total)


def adam(theta: Array, mean: Array, square: Array, slope: Array, lr: float, step: int) -> None:
    """Go up the slope by one step of Adam, in place.

    Args:
        mean, square: running averages of the slope and of its square.
        step: steps before this one.
    """
    mean += (1 - BETA1) * (slope - mean)
    square += (1 - BETA2) * (slope**2 - square)
    unbiased, size = mean / (1 - BETA1 ** (step + 1)), square / (1 - BETA2 ** (step + 1))
    theta += lr * unbiased / (np.sqrt(size) + EPSILON)
