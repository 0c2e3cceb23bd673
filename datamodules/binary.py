"""Images of another data set in black and white: by chance, each time anew, or by a threshold.

Source: Salakhutdinov & Murray 2008, "On the quantitative analysis of deep belief networks", section 6.1 (by chance).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.base import Batch, Data, Source, generator


@dataclass
class Tossed:
    """The rows of another source, each number in [-1, 1] made 1 with probability (x + 1) / 2, else -1."""

    of: Source

    def rows(self, seed: int, step: int, batch: int, first: int, last: int) -> Batch:
        found = self.of.rows(seed, step, batch, first, last)
        even = torch.rand(batch, *found["x"].shape[1:], generator=generator(seed, step, 1))[first:last]
        return black_and_white(found, even)


@dataclass
class Thresholded:
    """The rows of another source, each number above 0 made 1, else -1."""

    of: Source

    def rows(self, seed: int, step: int, batch: int, first: int, last: int) -> Batch:
        return black_and_white(self.of.rows(seed, step, batch, first, last))


def black_and_white(batch: Batch, even: Tensor | float = 0.5) -> Batch:
    """1 where numbers `even` in [0, 1) are below (x + 1) / 2, else -1."""
    return batch | {"x": torch.where(even < (batch["x"] + 1) / 2, 1.0, -1.0)}


class Binary(Data):
    """Images [B, *shape] of -1 and 1.

    Args:
        of: images in [-1, 1]; its batch is the global one.
        by_chance: toss a coin for each pixel, anew in every epoch, and for held-out images once and for all; else 1 is what is above 0.
    """

    levels = 2

    def __init__(self, of: Data, *, by_chance: bool = False) -> None:
        super().__init__(batch=of.batch, num_workers=of.num_workers)
        self.of, self.shape, self.classes, self.by_chance = of, of.shape, of.classes, by_chance

    def setup(self, stage: str) -> None:
        self.of.setup(stage)
        if self.of.source is not None:
            self.source = (Tossed if self.by_chance else Thresholded)(self.of.source)

    def test(self, n: int | None = None) -> Batch:
        found = self.of.test(n)
        return black_and_white(
            found, torch.rand(found["x"].shape, generator=generator(2**40)) if self.by_chance else 0.5
        )
