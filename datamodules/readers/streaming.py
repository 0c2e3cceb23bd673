"""Streams: data that are read from beginning to end and not by index, in the same stateless order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from datamodules.base import Batch, check_batch

Row = dict[str, Any]
READ = 64
"""Rows that are read at once."""


@dataclass
class Streamed:
    """`size` rows in a new order each epoch; rows that do not fill a whole batch are left out of that epoch.

    Every worker reads the whole stream and decodes only its own rows. To go back, or to another epoch, the stream is opened
    again and read up to the position, so that a resumed run continues with the same rows.

    Args:
        size: rows of an epoch.
        open: (seed, epoch) -> the rows of that epoch, not decoded.
        take: (rows, epoch) -> Batch.
    """

    size: int
    open: Callable[[int, int], Iterator[Row]]
    take: Callable[[list[Row], int], Batch]
    _at: tuple[int, int, int] = field(default=(-1, -1, 0), repr=False)
    _stream: Iterator[Row] = field(default=iter(()), repr=False)

    def rows(self, seed: int, step: int, batch: int, first: int, last: int) -> Batch:
        check_batch(batch, self.size, "rows")
        epoch, batches = divmod(step, self.size // batch)
        return self.take(self.read(seed, epoch, batches * batch + first, batches * batch + last), epoch)

    def read(self, seed: int, epoch: int, first: int, last: int) -> list[Row]:
        """Rows first..last-1 of an epoch."""
        if self._at[:2] != (seed, epoch) or self._at[2] > first:
            self._stream, self._at = iter(self.open(seed, epoch)), (seed, epoch, 0)
        skip = first - self._at[2]
        found = list(islice(self._stream, skip, skip + last - first))
        self._at = (seed, epoch, last)
        if len(found) < last - first:
            raise ValueError(f"The stream ended before row {last}, but {self.size} were expected: download it again.")
        return found


def as_it_is(row: Row) -> Iterable[Row]:
    """The row alone."""
    return (row,)


def shuffled(
    rows: Any, buffer: int, seed: int, epoch: int, cut: Callable[[Row], Iterable[Row]] = as_it_is
) -> Iterator[Row]:
    """The rows of an `IterableDataset`: its files in random order, and rows drawn from the next `buffer` of them.

    Differs: `IterableDataset.shuffle` would do the same, in an order that is its version's.

    Args:
        rows: the `IterableDataset`.
        buffer: rows that are held to draw from, at least 1.
        seed: of the run.
        epoch: from 0.
        cut: row -> the rows that it is cut into, before they are shuffled.
    """
    rng = np.random.default_rng((seed, epoch))
    files = (rows.shard(rows.num_shards, int(i)) for i in rng.permutation(rows.num_shards))
    return mixed((part for file in files for row in each(file) for part in cut(row)), buffer, rng)


def each(rows: Any) -> Iterator[Row]:
    """All rows; `iter(rows)` would split the files among loading processes, but each process needs all of them."""
    for found in rows.iter(batch_size=READ):
        yield from (dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True))


def mixed(rows: Iterator[Row], buffer: int, rng: np.random.Generator) -> Iterator[Row]:
    """Every row once, in random order: each is drawn from `buffer` rows, where the next row that is read replaces it."""
    kept = list(islice(rows, buffer))
    for row in rows:
        i = rng.integers(len(kept))
        kept[i], row = row, kept[i]
        yield row
    rng.shuffle(kept)
    yield from kept
