"""Variational dequantisation: noise that turns grey levels into continuous values, learned with the flow.

Source: Ho et al. 2019, Flow++, arXiv:1902.00275, section 3.1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.flows.bijection import sum_features
from lightning_modules.flows.coupling import Checkerboard, affine
from lightning_modules.nets.conditioned import Residual


class VariationalDequantiser(nn.Module):
    """Uniform values -> noise in (-1/2, 1/2) whose density depends on the image; the identity before training.

    A logit, affine couplings by checkerboards that also see the image, and a sigmoid.

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

    def forward(self, x: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Noise [B, C, H, W] for images x, made of uniform values in [-1/2, 1/2), and its log density [B]."""
        u = (uniform + 0.5).clamp(1e-6, 1 - 1e-6)
        v = u.logit()
        logs = sum_features(F.logsigmoid(v) + F.logsigmoid(-v))
        for board, net in zip(self.boards, self.nets, strict=True):
            fixed, changing, mask = board.take(v)
            log_scale, shift = (p * mask for p in affine(net(torch.cat([fixed, x], 1))))
            v = board.join(fixed, changing * log_scale.exp() + shift)
            logs = logs - sum_features(log_scale)
        return v.sigmoid() - 0.5, logs - sum_features(F.logsigmoid(v) + F.logsigmoid(-v))
