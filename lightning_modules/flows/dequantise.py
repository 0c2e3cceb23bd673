"""Noise that turns grey levels into continuous numbers, learned to suit the flow.

Source: Ho et al. 2019, Flow++, arXiv:1902.00275, section 3.1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.flows.bijection import rows
from lightning_modules.flows.coupling import Checkerboard, affine
from lightning_modules.nets.conditioned import Residual


class Variational(nn.Module):
    """Even numbers made noise in (-1/2, 1/2) whose density depends on the image; even as they are before anything is learned.

    Logistic numbers pass affine couplings of checkerboards, told by the image, and a sigmoid.

    Args:
        shape: of an image, (C, H, W).
        width: channels of each coupling's network.
        steps: couplings.

    Raises:
        ValueError: examples are no images.

    Differs: affine couplings in place of mixtures of logistics with attention.
    """

    def __init__(self, shape: tuple[int, ...], width: int, *, steps: int = 4) -> None:
        super().__init__()
        if len(shape) != 3:
            raise ValueError(f"Learned noise is for images [C, H, W], not for examples of shape {list(shape)}.")
        channels, *sides = shape
        self.boards = nn.ModuleList(Checkerboard(sides, flip=i % 2 == 0) for i in range(steps))
        self.nets = nn.ModuleList(Residual(2 * channels, 2 * channels, width=width, blocks=1) for _ in range(steps))

    def forward(self, x: Tensor, even: Tensor) -> tuple[Tensor, Tensor]:
        """Noise [B, C, H, W] for images x, made of numbers even in [-1/2, 1/2), and its log density [B]."""
        u = (even + 0.5).clamp(1e-6, 1 - 1e-6)
        v = u.logit()
        logs = rows(F.logsigmoid(v) + F.logsigmoid(-v))
        for board, net in zip(self.boards, self.nets, strict=True):
            known, moving, counts = board.take(v)
            scale, shift = (numbers * counts for numbers in affine(net(torch.cat([known, x], 1))))
            v = board.join(known, moving * scale.exp() + shift)
            logs = logs - rows(scale)
        return v.sigmoid() - 0.5, logs - rows(F.logsigmoid(v) + F.logsigmoid(-v))
