"""Noise that every worker can draw again: a function of (seed, generation, pair)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def generator(*key: int) -> np.random.Generator:
    """A generator that is a function of whole numbers."""
    entropy: Any = np.random.SeedSequence([k % 2**63 for k in key])
    return np.random.Generator(np.random.Philox(entropy))


def size_of(sizes: Sequence[int]) -> int:
    """Weights and biases of a perceptron with layers of these sizes."""
    return sum((a + 1) * b for a, b in pairwise(sizes))


def perturbation(seed: int, generation: int, pair: int, sizes: Sequence[int], rank: int = 0) -> Array:
    """The direction of a pair: as many numbers as a perceptron has weights, each with mean 0 and variance 1.

    Args:
        sizes: of the perceptron's layers.
        rank: 0 draws independent normals. r > 0 makes each weight matrix A B' / sqrt r, with normal A [in, r] and B [out, r]: its
            entries are uncorrelated, but not independent.

    Source: Salimans et al. 2017, arXiv:1703.03864, algorithm 2; low rank: EGGROLL, arXiv:2511.16652.
    """
    rng = generator(seed, generation, pair)
    if not rank:
        return rng.standard_normal(size_of(sizes))
    parts = []
    for a, b in pairwise(sizes):
        left, right = rng.standard_normal((a, rank)), rng.standard_normal((b, rank))
        parts += [(left @ right.T).ravel() / rank**0.5, rng.standard_normal(b)]
    return np.concatenate(parts)
