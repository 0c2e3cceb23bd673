"""The 1,797 handwritten digits of scikit-learn: 8x8 pixels of 17 grey levels, ten classes; no download."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from datamodules.base import Batch, Data, table
from datamodules.duplicates import among

LEVELS = 17


class Digits(Data):
    """Images [B, 1, 8, 8] in [-1, 1] with labels; up to 1,500 to train on and 297 held out, a fixed random split of the rows.

    No held-out image is also trained on: where few levels make a training image equal to one, it is left out (24 of 2
    levels, none of 4 or more). The 13 writers are the same in both parts, because scikit-learn has the rows of 13 writers
    alone and does not say whose each is. So what is measured is not how well a model does on a new writer's digits.

    Args:
        batch: global batch.
        levels: of grey, evenly spaced; fewer than 17 join neighbours, 2 leave black and white.

    Raises:
        ValueError: so many levels there are not.
    """

    shape = (1, 8, 8)
    classes = 10
    part = "test, by the writers of the training part"

    def __init__(self, *, batch: int = 128, levels: int = LEVELS) -> None:
        super().__init__(batch=batch)
        if not 2 <= levels <= LEVELS:
            raise ValueError(f"The digits have 2 to {LEVELS} levels of grey, not {levels}.")
        self.levels = levels

    def setup(self, stage: str) -> None:
        x, label = load()
        x = coarse(x, self.levels)
        order = torch.from_numpy(np.random.default_rng(0).permutation(len(x)))
        first, last = order[:1500], order[1500:]
        first = first[~among(x[first], x[last])]
        self.train = {"x": x[first], "label": label[first]}
        self.held_out = {"x": x[last], "label": label[last]}
        self.source = table(**self.train)

    def test(self, n: int | None = None) -> Batch:
        if self.source is None:
            self.setup("test")
        return {name: column[:n] for name, column in self.held_out.items()}


def load() -> tuple[Tensor, Tensor]:
    """All images [1797, 1, 8, 8] and labels [1797]."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
    return x, torch.tensor(digits.target, dtype=torch.long)


def coarse(x: Tensor, levels: int) -> Tensor:
    """Grey levels joined, as evenly as can be, to `levels` of them, which again span -1 to 1."""
    level = ((x + 1) * (LEVELS - 1) / 2).round()
    return (level * levels / LEVELS).floor() * (2 / (levels - 1)) - 1
