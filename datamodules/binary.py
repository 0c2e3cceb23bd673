"""Images of another data set in black and white."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from datamodules.base import Batch, Data, Source


@dataclass
class Thresholded:
    """The rows of another source, each number -1 or 1."""

    source: Source

    def rows(self, seed: int, step: int, batch: int, first: int, last: int) -> Batch:
        return black_and_white(self.source.rows(seed, step, batch, first, last))


class Binary(Data):
    """What is above 0 becomes 1, all else -1.

    Args:
        of: the data set.
    """

    levels = 2

    def __init__(self, of: Data) -> None:
        super().__init__(of.batch, of.num_workers)
        self.of, self.shape, self.classes = of, of.shape, of.classes

    def setup(self, stage: str) -> None:
        self.of.setup(stage)
        if self.of.source is not None:
            self.source = Thresholded(self.of.source)

    def test(self, n: int | None = None) -> Batch:
        return black_and_white(self.of.test(n))


def black_and_white(batch: Batch) -> Batch:
    return {**batch, "x": torch.where(batch["x"] > 0, 1.0, -1.0)}
