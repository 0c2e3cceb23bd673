"""Images made smaller by means of squares of pixels: the data of the base of a cascade."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch.nn.functional as F

from datamodules.base import Batch, Data, Endless, Finite, Source


class Shrunk(Data):
    """Another data set of images, whose batches hold the means of factor x factor pixels as 'x', and 'label' where it has one.

    Args:
        of: the data set.
        factor: pixels of a side that become one.

    Raises:
        ValueError: its examples are no images that can be cut into such squares.
    """

    def __init__(self, of: Data, factor: int) -> None:
        super().__init__(batch=of.batch, num_workers=of.num_workers)
        if len(of.shape) != 3 or factor < 1 or any(side % factor for side in of.shape[1:]):
            raise ValueError(
                f"Examples of shape {of.shape} cannot be made smaller by {factor}: images are needed whose height and width are "
                f"multiples of {factor}."
            )
        self.of, self.factor, self.classes = of, factor, of.classes
        self.shape = (of.shape[0], of.shape[1] // factor, of.shape[2] // factor)

    @property
    def part(self) -> str:  # type: ignore[override]
        """What `test` gives."""
        return self.of.part

    def setup(self, stage: str) -> None:
        """Set the data up; only once."""
        if self.source is None:
            self.of.setup(stage)
            assert self.of.source is not None
            self.source = shrunk(self.of.source, self.factor)

    def test(self, n: int | None = None) -> Batch:
        return means(self.factor, self.of.test(n))

    def validation(self, n: int | None = None) -> Batch | None:
        """The first n examples to choose by, where the set itself keeps such."""
        found = self.of.validation(n)
        return None if found is None else means(self.factor, found)


@dataclass
class Rows:
    """A stream whose batches are made smaller."""

    of: Source
    factor: int

    def rows(self, seed: int, step: int, batch: int, first: int, last: int) -> Batch:
        """Rows first..last-1 of the global batch."""
        return means(self.factor, self.of.rows(seed, step, batch, first, last))

    def __getattr__(self, name: str) -> Any:
        if name == "of":  # not built yet
            raise AttributeError(name)
        return getattr(self.of, name)


def shrunk(source: Source, factor: int) -> Source:
    """A source whose images are made smaller, in the same order."""
    if isinstance(source, Finite):
        return replace(source, take=partial(after, source.take, factor))
    if isinstance(source, Endless):
        return replace(source, draw=partial(after, source.draw, factor))
    return Rows(source, factor)


def after(make: Callable[..., Batch], factor: int, *given: Any) -> Batch:
    """The batch that `make` makes of these arguments, made smaller."""
    return means(factor, make(*given))


def means(factor: int, batch: Batch) -> Batch:
    """The batch with the means of factor x factor pixels as 'x' [B, C, H / factor, W / factor]; only 'label' stays besides."""
    small = {"x": F.avg_pool2d(batch["x"], factor)}
    return small | ({"label": batch["label"]} if "label" in batch else {})
