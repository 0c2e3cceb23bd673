"""Noise that every worker can draw again: a function of (seed, generation, pair)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ray_jobs.recipe.process import generator

Array = NDArray[np.float64]


def size_of(sizes: Sequence[int]) -> int:
    """Weights and biases of a perceptron with layers of these sizes."""
    return sum((a + 1) * b for a, b in pairwise(sizes))


class LowRank(NamedTuple):
    """The directions of N pairs in one layer [in, out] of a perceptron: left right' / sqrt r for its weights, and its biases."""

    left: Array
    """[N, in, r]"""
    right: Array
    """[N, out, r]"""
    bias: Array
    """[N, out]"""


def perturbation(seed: int, generation: int, pair: int, sizes: Sequence[int], rank: int = 0) -> Array:
    """The direction of a pair: as many numbers as a perceptron has weights, each with mean 0 and variance 1.

    Args:
        sizes: of the perceptron's layers.
        rank: 0 draws independent normals; r > 0 is written out what `low_rank` keeps in factors.

    Source: Salimans et al. 2017, arXiv:1703.03864, algorithm 2.
    """
    if not rank:
        return generator(seed, generation, pair).standard_normal(size_of(sizes))
    layers = low_rank(seed, generation, [pair], sizes, rank)
    matrices = [(layer.left[0] @ layer.right[0].T / rank**0.5, layer.bias[0]) for layer in layers]
    return np.concatenate([part.ravel() for layer in matrices for part in layer])


def low_rank(seed: int, generation: int, pairs: Sequence[int], sizes: Sequence[int], rank: int) -> list[LowRank]:
    """The directions of pairs, layer by layer, whose weight matrices are A B' / sqrt r with normal A [in, r] and B [out, r].

    The entries of such a matrix are uncorrelated, but not independent. A pair takes r (in + out) + out normals in place of (in + 1) out.

    Source: Sarkar et al. 2025 (EGGROLL), arXiv:2511.16652.
    """
    number = sum(rank * (a + b) + b for a, b in pairwise(sizes))
    drawn = np.stack([generator(seed, generation, pair).standard_normal(number) for pair in pairs])
    layers, at = [], 0
    for a, b in pairwise(sizes):
        left, right, bias = np.split(drawn[:, at : at + rank * (a + b) + b], [rank * a, rank * (a + b)], axis=1)
        layers.append(LowRank(left.reshape(-1, a, rank), right.reshape(-1, b, rank), bias))
        at += rank * (a + b) + b
    return layers
