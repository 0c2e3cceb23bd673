"""Random numbers of tabular processes: functions of (seed, step, shard), and draws from tables of probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ray_jobs.tabular.mdp import Array


def generator(*numbers: int) -> np.random.Generator:
    """A generator that is a function of these numbers."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(list(numbers))))


def place(edges: Array, u: Array) -> NDArray[np.int64]:
    """The place [R] of uniform numbers [R] among cumulative probabilities [R, K]; K where they lie above all."""
    return (edges <= u[:, None]).sum(-1)
