"""Dropout whose noise is that of the model: a function of seed, step and row of the global batch.

Source: Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting", section 4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_modules.draws import Draws


class Dropout(nn.Module):
    """In training, each entry of h [B, *D] becomes 0 with probability `rate`, and the others are divided by 1 - rate.

    `Generative.set_draws` gives it the model's draws, so an example loses the same entries on one worker and on two, in one
    micro-batch and in several. `nn.Dropout` draws by torch's own generator, and does not keep this.

    Args:
        rate: in [0, 1).

    Raises:
        ValueError: `rate` is out of range.
    """

    draws: Draws | None = None
    """The model's; None outside of a training, where torch's own generator is used."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"Dropout is {rate}; it must be in [0, 1).")
        self.rate = rate

    def forward(self, h: Tensor) -> Tensor:
        """[B, *D] -> [B, *D]."""
        if not self.training or not self.rate:
            return h
        drawn = self.draws.uniform(*h.shape, device=h.device) if self.draws else torch.rand(h.shape, device=h.device)
        return h * ((drawn >= self.rate).to(h) / (1 - self.rate))
