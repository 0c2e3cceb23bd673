"""From returns to a gradient step: centred ranks, the estimate of mirrored pairs, Adam."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.stats import rankdata

from ray_jobs.evolution.noise import Array, LowRank

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Of Adam: Kingma & Ba 2015, arXiv:1412.6980, algorithm 1."""

SUMMED = 256
"""Terms of a sum in one matrix product; BLAS splits longer sums, in a way that depends on its threads."""


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
    total = 0.0
    for weight, direction in zip(weights_of(fitness, sigma), directions, strict=True):
        total = total + weight * direction
    return np.asarray(total)


def low_rank_estimate(fitness: Array, batches: Iterable[Sequence[LowRank]], sigma: float) -> Array:
    """As `estimate`, of directions of low rank: a batch of pairs is one matrix product in each layer, and no direction is written out.

    Args:
        fitness: [N, 2]
        batches: the layers of successive pairs, N in all. A product that sums at most `SUMMED` terms has the same bits on any number
            of threads.
    """
    total, weights, first = np.zeros(0), weights_of(fitness, sigma), 0
    for layers in batches:
        n = len(layers[0].bias)
        weight, parts = weights[first : first + n], []
        for layer in layers:
            a, b, rank = layer.left.shape[1], layer.right.shape[1], layer.left.shape[2]
            left = (weight[:, None, None] * layer.left).transpose(1, 0, 2).reshape(a, n * rank)
            matrix = left @ layer.right.transpose(0, 2, 1).reshape(n * rank, b) / rank**0.5
            parts += [matrix.ravel(), weight @ layer.bias]
        total = total + np.concatenate(parts) if first else np.concatenate(parts)
        first += n
    return total


def weights_of(fitness: Array, sigma: float) -> Array:
    """The factor [N] of each pair's direction in the estimate: (F+ - F-) / (2 N sigma)."""
    return (fitness[:, 0] - fitness[:, 1]) / (2 * len(fitness) * sigma)


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
