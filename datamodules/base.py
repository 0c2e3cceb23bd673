"""Data in a stateless order: which examples the step k trains on is a pure function of (seed, k).

A data set is a `Source` of global batches. A worker takes its own contiguous rows of each, so nothing depends on how
many workers there are, and a run that resumes begins at any step without replaying those before it.
"""

from __future__ import annotations

import atexit
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import active_children
from typing import Any, Protocol

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

Batch = dict[str, Tensor]
"""'x' [B, *D] float32, and where there are classes 'label' [B], long."""


Part = Callable[[int | None], Batch]
"""n -> the first n examples of a part of a data set; all of them where n is None."""
TEST_SEED, VALIDATION_SEED = 0, 1_641_109_310
"""Of a laboratory's test set, and of the examples that are kept to choose by. (On a CPU, torch reads only the lowest 32 bits of a seed.)"""
MOST_VALIDATION = 10_000
"""Examples to choose by, at most: a tenth of a large set would be slow to measure."""


class Source(Protocol):
    """Where training examples come from. One that can also be `divided`, as `Finite` and `Endless` can, can be tuned."""

    def rows(self, seed: int, step: int, batch: int, first: int, last: int) -> Batch:
        """Rows first..last-1 of the global batch of `batch` examples that step `step` trains on."""
        ...


@dataclass
class Finite:
    """`size` examples in a new random order each epoch; what does not fill a whole batch is left out of that epoch.

    Args:
        size: number of examples.
        take: indices [B] of examples -> Batch.
        forms: of each example, such as 2 where each is also mirrored: indices i and i + size / forms are of the same.
    """

    size: int
    take: Callable[[np.ndarray], Batch]
    forms: int = 1
    _order: tuple[tuple[int, int], np.ndarray] = field(default=((-1, -1), np.empty(0)), repr=False)

    def rows(self, seed: int, step: int, batch: int, first: int, last: int) -> Batch:
        check_batch(batch, self.size)
        epoch, place = divmod(step, self.size // batch)
        return self.take(self.order(seed, epoch)[place * batch + first : place * batch + last])

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """The permutation [size] of this epoch; the last one is remembered."""
        if self._order[0] != (seed, epoch):
            self._order = ((seed, epoch), np.random.default_rng((seed, epoch)).permutation(self.size))
        return self._order[1]

    def first(self, n: int | None = None) -> Batch:
        """The first n examples, each in its first form; all where n is None."""
        whole = self.size // self.forms
        return self.take(np.arange(whole if n is None else min(n, whole)))

    def parts(self, most: int) -> Iterator[Batch]:
        """All examples in order, each in its first form, at most `most` at once."""
        whole = self.size // self.forms
        for start in range(0, whole, most):
            yield self.take(np.arange(start, min(start + most, whole)))

    def divided(self) -> tuple[Finite, Part]:
        """The source without a validation part, and that part: a tenth, by a fixed permutation, at most MOST_VALIDATION.

        Raises:
            ValueError: there are fewer than two examples.
        """
        whole = self.size // self.forms
        if whole < 2:
            raise ValueError(f"There is {whole} training example: at least 2 are needed to keep some to choose by.")
        order = np.random.default_rng(VALIDATION_SEED).permutation(whole)
        held, kept = np.split(order, [min(max(1, whole // 10), MOST_VALIDATION)])
        places = np.concatenate([np.sort(kept) + form * whole for form in range(self.forms)])
        chosen = Finite(len(held), partial(take_at, self.take, np.sort(held)))
        return Finite(len(places), partial(take_at, self.take, places), self.forms), chosen.first


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

    def divided(self) -> tuple[Endless, Part]:
        """The source itself, and fresh examples that no training or test draws: n of them, 4,096 where n is None."""
        return self, lambda n: self.draw(n or 4096, torch.Generator().manual_seed(VALIDATION_SEED))


def take_at(take: Callable[[np.ndarray], Batch], places: np.ndarray, index: np.ndarray) -> Batch:
    """The examples at `places` [N] by index [B] into them."""
    return take(places[index])


def check_batch(batch: int, size: int, what: str = "examples") -> None:
    """Raise ValueError where an epoch of `size` examples, or rows, holds no whole batch."""
    if batch > size:
        raise ValueError(f"The global batch is {batch}, but there are only {size} {what}: take a smaller one.")


def generator(*counters: int) -> torch.Generator:
    """A generator on the CPU whose seed is a pure function of `counters` (each >= 0)."""
    seed = int(np.random.SeedSequence(counters).generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator().manual_seed(seed)


def test_set(draw: Callable[[int, torch.Generator], Batch], n: int) -> Batch:
    """The test set of a laboratory: n examples that `draw` makes, always the same."""
    return draw(n, torch.Generator().manual_seed(TEST_SEED))


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


@dataclass(frozen=True)
class Caught(Dataset):
    """Another data set whose errors about the data are items, so that a loading process can send them as they are.

    A `DataLoader` would raise them in the training process with the trace of the other one as their text.
    """

    of: Dataset

    def __getitem__(self, index: int) -> Any:
        try:
            return self.of[index]
        except (ValueError, OSError) as error:
            return error.with_traceback(None)


def outlive_signals(worker: int) -> None:
    """In a loading process, ignore requests to stop: they are the training process's, which saves the run and then ends this one.

    Schedulers and Ctrl-C send the signal to all processes of a run.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def end_loading() -> None:
    """End the loading processes of a process that ends: Python would ask them by a signal, which they ignore, and wait for ever."""
    for items in list(LOADING):
        if isinstance(items, _MultiProcessingDataLoaderIter):
            items._shutdown_workers()
    for child in active_children():  # one that hangs in reading
        if child.daemon:
            child.kill()


LOADING: set[Iterator[Any]] = set()
"""The iterators of loaders that are read. Were they reachable only from a trainer, whose parts refer to each other, the garbage collector
might close their pipes before it lets them end their processes, which then stay, and are waited for 5 s each."""


class Loader(DataLoader):
    """A `DataLoader` that raises the errors among its items: one sentence, whichever process met them."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        items = super().__iter__()
        atexit.unregister(end_loading)
        atexit.register(end_loading)  # after torch has registered its own for these processes: the last one runs first
        LOADING.add(items)
        try:
            for item in items:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            LOADING.discard(items)


def part_of(data: Data) -> str:
    """What `data.test` gives, as reports name it: 'test', 'validation', or of a laboratory 'fresh draws'."""
    return "fresh draws" if data.part == "test" and isinstance(data.source, Endless) else data.part


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
    part: str = "test"
    """What `test` gives, as reports name it."""
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

    def validation(self, n: int | None = None) -> Batch | None:
        """The first n examples to choose settings by, where the set itself keeps such; None where it does not."""
        return None

    def blank(self, n: int) -> Batch:
        """A batch of n examples that needs no file: what training gets, without its values where these are read."""
        if isinstance(self.source, Endless):
            return self._paired(self.source).rows(0, 0, n, 0, n)
        columns = {"x": torch.zeros(n, *self.shape)} | ({"label": torch.zeros(n).long()} if self.classes else {})
        return self._paired(table(**columns)).rows(0, 0, n, 0, n)

    def _paired(self, source: Source) -> Source:
        return self.paired(source) if self.paired else source

    def seen(self, n: int | None = None) -> Batch:
        """The first n training examples, all where n is None.

        Raises:
            ValueError: they are not finite in number, or cannot be had by index.
        """
        return self._listed().first(n)

    def seen_in_parts(self, most: int = 1024) -> tuple[int, Iterator[Batch]]:
        """The number of training examples, and all of them in order, at most `most` at once where they are not in memory.

        Raises:
            ValueError: as in `seen`.
        """
        source = self._listed()
        if isinstance(source, Finite):
            return source.size // source.forms, source.parts(most)
        whole = source.first(None)
        return len(whole["x"]), iter([whole])

    def _listed(self) -> Any:
        """The source, which has `first`."""
        if self.source is None:
            self.setup("fit")
        if not hasattr(self.source, "first"):
            raise ValueError(f"The training examples of {type(self).__name__} cannot be listed.")
        return self.source

    def train_dataloader(self) -> DataLoader:
        if self.source is None:
            self.setup("fit")
        check_batch(self.batch, getattr(self.source, "size", self.batch))
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        share = Share(self._paired(self.source), self.seed, self.batch, self.accumulate, rank, world)
        return Loader(
            Caught(share),
            batch_size=None,
            sampler=From(self.start),
            collate_fn=whole,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            worker_init_fn=outlive_signals,
        )
