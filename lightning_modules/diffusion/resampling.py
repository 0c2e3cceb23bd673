"""Importance sampling of the terms of the variational bound by the losses that they had.

Source: Nichol & Dhariwal 2021, arXiv:2102.09672, section 3.3, eq. 18.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

KEPT = 10
"""Losses that are remembered of each term."""
UNIFORM = 0.001
"""Share of the uniform distribution that is mixed in, as in the authors' code."""


class Resampler(nn.Module):
    """Draws terms t in proportion to sqrt(E[L_t^2]) over the last losses; uniformly until each term has enough of them.

    Its history is in buffers, so that a checkpoint holds it.

    Args:
        terms: T.
    """

    def __init__(self, terms: int) -> None:
        super().__init__()
        self.history: Tensor
        self.count: Tensor
        self.register_buffer("history", torch.zeros(terms, KEPT, dtype=torch.float64))
        self.register_buffer("count", torch.zeros(terms, dtype=torch.long))

    def probability(self) -> Tensor:
        """p_t of each term, [T], float64."""
        terms = len(self.count)
        even = torch.full_like(self.history[:, 0], 1 / terms)
        root = self.history.square().mean(1).sqrt()
        weighted = (1 - UNIFORM) * root / root.sum() + UNIFORM * even
        return torch.where((self.count >= KEPT).all(), weighted, even)

    def draw(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Terms [B] for u [B], uniform in [0, 1), and their weights 1 / (T p_t): the mean of weight times loss is that over all terms."""
        p = self.probability()
        index = torch.searchsorted(p.cumsum(0), u.to(p), right=True).clamp(max=len(p) - 1)
        return index, 1 / (len(p) * p[index])

    def add(self, index: Tensor, loss: Tensor) -> None:
        """Remember the losses [B] of terms [B], in this order; the oldest ones are forgotten."""
        for t, value in zip(index.tolist(), loss.double().tolist(), strict=True):
            self.history[t, self.count[t] % KEPT] = value
            self.count[t] += 1
