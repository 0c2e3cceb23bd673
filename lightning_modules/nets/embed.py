"""Embeddings of noise levels, times and labels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lightning_modules.conditions import UNCONDITIONAL, Cond, label_rows


def waves(t: Tensor, dim: int, low: float = 0.1, high: float = 30.0) -> Tensor:
    """Cosines and sines [B, dim] of t [B] at dim / 2 frequencies, geometric from `low` to `high` radians per unit of t.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
    Differs: the frequencies suit logarithms of noise levels, which span about ten units, not token positions.
    """
    frequency = torch.logspace(math.log10(low), math.log10(high), dim // 2, device=t.device)
    angle = t.float()[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], 1)


class Conditioning(nn.Module):
    """One vector [B, width] of what a network is given about the noise level, [B], and of the labels where there are classes.

    Args:
        width: of the result.
        classes: number of labels; an example whose label is hidden or absent gets a learned row of its own. 0: no labels.
    """

    def __init__(self, width: int, classes: int = 0) -> None:
        super().__init__()
        self.dim = max(16, width // 4 * 2)
        self.body = nn.Sequential(nn.Linear(self.dim, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(classes + 1, width) if classes else None

    def forward(self, level: Tensor, cond: Cond = UNCONDITIONAL) -> Tensor:
        """The vector [B, width].

        Raises:
            ValueError: a condition other than labels is given, or labels where there are no classes.
        """
        vector = self.body(waves(level, self.dim).to(next(self.body.parameters())))
        if self.label is None:
            cond.allow()
            return vector
        cond.allow("label")
        rows = label_rows(cond, self.label.num_embeddings - 1, len(level), level.device)
        return vector + self.label(rows)
