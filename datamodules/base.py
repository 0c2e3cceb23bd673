"""Data in a stateless order: which examples the step k trains on is a pure function of (seed, k).

A data set is a `Source` of global batches. A worker takes its own contiguous rows of each, so nothing depends on how
many workers there are, and a run that resumes begins at any step without replaying those before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

Batch = dict[str, Tensor]
"""'x' [B, *D] float32, and where there are classes 'label' [B], long."""


class Source(Protocol):
    """Where training examples come from."""

    def rows(self, seed: int, step: int, batch: int, first: int, last: int) -> Batch:
        """Rows first..last-1 of the global batch of `batch` examples that step `step` trains on."""
        ...


@dataclass
class Finite:
    """`size` examples in a new random order each epoch; what does not fill a whole batch is left out of that epoch.

    Args:
        size: number of examples.
        take: indices [B] of examples -> Batch.
    """

    size: int
    take: Callable[[np.ndarray], Batch]
    _order: tuple[tuple[int, int], np.ndarray] = field(default=((-1, -1), np.empty(0)), repr=False)

    def rows(self, seed: int, step: int, batch: int, first: int, last: int) -> Batch:
        if batch > self.size:
            raise ValueError(
                f"The global batch is {batch}, but there are only {self.size} examples: take a smaller one."
            )
        epoch, place = divmod(step, self.size // batch)
        return self.take(self.order(seed, epoch)[place * batch + first : place * batch + last])

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """The permutation [size] of this epoch; the last one is remembered."""
        if self._order[0] != (seed, epoch):
            self._order = ((seed, epoch), np.random.default_rng((seed, epoch)).permutation(self.size))
        return self._order[1]


@dataclass
class Endless:
    """Fresh examples at every step, from a distribution that can be drawn from.

    Args:
        draw: (n, generator) -> Batch of n examples.
    """

    draw: Callable[[int, torch.Generator], Batch]

    def rows(self, seed: int, step: int, batch: int, first: int, last: int) -> Batch:
        whole = self.draw(batch, generator(seed, step))
        return {name: column[first:last] for name, column in whole.items()}


def generator(*counters: int) -> torch.Generator:
    """A generator on the CPU whose seed is a pure function of `counters` (each >= 0)."""
    seed = int(np.random.SeedSequence(counters).generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator().manual_seed(seed)


def table(**columns: Tensor) -> Finite:
    """A data set in memory: columns [N, *D] of equal N."""
    size = len(next(iter(columns.values())))

    def take(index: np.ndarray) -> Batch:
        rows = torch.from_numpy(index)
        return {name: column.index_select(0, rows) for name, column in columns.items()}

    return Finite(size, take)


@dataclass(frozen=True)
class Share(Dataset):
    """This worker's micro-batches: item i is its share of the i-th micro-batch of the run."""

    source: Source
    seed: int
    batch: int
    accumulate: int
    rank: int
    world: int

    def __post_init__(self) -> None:
        if self.batch < 1 or self.batch % (self.world * self.accumulate):
            raise ValueError(
                f"A global batch of {self.batch} does not divide into {self.world} worker(s) times "
                f"{self.accumulate} micro-batch(es): make it a multiple of {self.world * self.accumulate}."
            )

    def __getitem__(self, index: int) -> Batch:
        step, micro = divmod(index, self.accumulate)
        size = self.batch // (self.world * self.accumulate)
        first = (micro * self.world + self.rank) * size
        return self.source.rows(self.seed, step, self.batch, first, first + size)


@dataclass(frozen=True)
class From(Sampler[int]):
    """start, start + 1, ... without end."""

    start: int

    def __iter__(self) -> Iterator[int]:
        index = self.start
        while True:
            yield index
            index += 1


def whole(batch: Batch) -> Batch:
    """The collate function of a data set whose items are batches already."""
    return batch


class Data(L.LightningDataModule):
    """A data set for training without end, and held-out examples for evaluation.

    Subclasses fill `source` in `setup` and define `test`. The trainer sets `batch`, `num_workers`, `seed`, `start` and
    `accumulate` before the fit, so nothing may read them before `train_dataloader`.

    Args:
        batch: the GLOBAL batch: examples of one optimiser step, over all workers and micro-batches.
        num_workers: processes that load ahead; 0 loads in the training process.
    """

    seed: int = 0
    """Of the run, >= 0."""
    start: int = 0
    """Micro-batch to begin at: optimiser steps done times `accumulate`."""
    accumulate: int = 1
    """Micro-batches of one step on each worker; of an adversarial model, of all steps of its discriminator together."""
    shape: tuple[int, ...] = ()
    """Of one example."""
    classes: int = 0
    """Number of labels; 0: there are none."""
    levels: int = 0
    """Values that an entry of 'x' can have: grey levels, evenly spaced from -1 to 1, or mu-law levels; 0: any."""

    def __init__(self, *, batch: int = 1, num_workers: int = 0) -> None:
        super().__init__()
        self.batch, self.num_workers = batch, num_workers
        self.source: Source | None = None
        self.paired: Callable[[Source], Source] | None = None
        """What makes the source that is trained on of `source`, such as `transport.Transported`; None: nothing."""

    def test(self, n: int | None = None) -> Batch:
        """The first n held-out examples (all if None); for a laboratory, n fresh ones, always the same."""
        raise NotImplementedError(f"{type(self).__name__} has no held-out examples")

    def train_dataloader(self) -> DataLoader:
        if self.source is None:
            self.setup("fit")
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        source = self.paired(self.source) if self.paired else self.source
        share = Share(source, self.seed, self.batch, self.accumulate, rank, world)
        return DataLoader(
            share,
            batch_size=None,
            sampler=From(self.start),
            collate_fn=whole,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )
