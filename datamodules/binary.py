"""Black and white images made of another data set: by chance, differently in each epoch, or by a threshold.

Source: Salakhutdinov & Murray 2008, "On the quantitative analysis of deep belief networks", section 6.1 (by chance).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.base import Batch, Data, Part, Source, generator


@dataclass
class Sampled:
    """The rows of another source, each value x in [-1, 1] replaced by 1 with probability (x + 1) / 2, else by -1."""

    of: Source

    def rows(self, seed: int, step: int, batch: int, first: int, last: int) -> Batch:
        found = self.of.rows(seed, step, batch, first, last)
        uniform = torch.rand(batch, *found["x"].shape[1:], generator=generator(seed, step, 1))[first:last]
        return black_and_white(found, uniform)

    def divided(self) -> tuple[Sampled, Part]:
        """The source without a validation part, and that part, drawn once."""
        kept, held = divided(self.of)
        return Sampled(kept), lambda n: drawn_once(held(n))


@dataclass
class Thresholded:
    """The rows of another source, each value above 0 replaced by 1, the others by -1."""

    of: Source

    @property
    def size(self) -> int:
        """Number of examples, of a finite source."""
        return self.of.size  # type: ignore[attr-defined]

    def rows(self, seed: int, step: int, batch: int, first: int, last: int) -> Batch:
        return black_and_white(self.of.rows(seed, step, batch, first, last))

    def first(self, n: int | None = None) -> Batch:
        """The first n examples, all where n is None, of a finite source."""
        return black_and_white(self.of.first(n))  # type: ignore[attr-defined]

    def divided(self) -> tuple[Thresholded, Part]:
        """The source without a validation part, and that part."""
        kept, held = divided(self.of)
        return Thresholded(kept), lambda n: black_and_white(held(n))


def divided(of: Source) -> tuple[Source, Part]:
    """Another source without a validation part, and that part.

    Raises:
        ValueError: it cannot be divided.
    """
    if not hasattr(of, "divided"):
        raise ValueError("These data give no examples to choose by: read them by index (streaming=False).")
    return of.divided()


def drawn_once(batch: Batch) -> Batch:
    """The batch with each pixel drawn by its grey level, always the same for the same rows."""
    return black_and_white(batch, torch.rand(batch["x"].shape, generator=generator(2**40)))


def black_and_white(batch: Batch, uniform: Tensor | float = 0.5) -> Batch:
    """The batch with x [B, *D] replaced by 1 where `uniform` [B, *D] in [0, 1) is below (x + 1) / 2, else by -1."""
    return batch | {"x": torch.where(uniform < (batch["x"] + 1) / 2, 1.0, -1.0)}


class Binary(Data):
    """Images [B, *shape] of -1 and 1.

    Args:
        of: images in [-1, 1].
        by_chance: draw each pixel, of training images in every epoch again, of held-out images once; else a pixel is 1 where it is above 0.
    """

    levels = 2

    def __init__(self, of: Data, *, by_chance: bool = False) -> None:
        super().__init__(batch=of.batch, num_workers=of.num_workers)
        self.of, self.shape, self.classes, self.by_chance = of, of.shape, of.classes, by_chance
        self.part = of.part

    def setup(self, stage: str) -> None:
        self.of.setup(stage)
        if self.of.source is not None:
            self.source = (Sampled if self.by_chance else Thresholded)(self.of.source)

    def test(self, n: int | None = None) -> Batch:
        found = self.of.test(n)
        return drawn_once(found) if self.by_chance else black_and_white(found)

    def validation(self, n: int | None = None) -> Batch | None:
        found = self.of.validation(n)
        if found is None:
            return None
        return drawn_once(found) if self.by_chance else black_and_white(found)
