"""Grey images made black and white by chance, each time anew.

Source: Salakhutdinov & Murray 2008, "On the quantitative analysis of deep belief networks", section 6.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from datamodules.base import Batch, Data, Source, generator


@dataclass
class Tossed:
    """A source of images in [-1, 1] whose pixels become 1 with probability (x + 1) / 2, else -1; of colours the first."""

    of: Source

    def rows(self, seed: int, step: int, batch: int, first: int, last: int) -> Batch:
        found = self.of.rows(seed, step, batch, first, last)
        grey = found["x"][:, :1]
        even = torch.rand(batch, *grey.shape[1:], generator=generator(seed, step, 1))[first:last]
        return found | {"x": toss(grey, even)}


def toss(grey: torch.Tensor, even: torch.Tensor) -> torch.Tensor:
    """1 where numbers in [0, 1) are below (grey + 1) / 2, else -1."""
    return torch.where(even < (grey + 1) / 2, 1.0, -1.0)


class Binary(Data):
    """Images [B, 1, H, W] of -1 and 1, as those of another data set are grey; held-out ones are tossed once and for all.

    Args:
        of: grey images in [-1, 1]; its batch is the global one.
    """

    def __init__(self, of: Data) -> None:
        super().__init__(of.batch, of.num_workers)
        self.of, self.shape, self.classes = of, (1, *of.shape[1:]), of.classes

    def setup(self, stage: str) -> None:
        self.of.setup(stage)
        assert self.of.source is not None
        self.source = Tossed(self.of.source)

    def test(self, n: int | None = None) -> Batch:
        found = self.of.test(n)
        grey = found["x"][:, :1]
        return found | {"x": toss(grey, torch.rand(grey.shape, generator=generator(2**40)))}
