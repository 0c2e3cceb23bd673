"""PixelCNN: residual blocks of masked convolutions.

System: PixelCNN
Source: van den Oord et al. 2016, arXiv:1601.06759, section 3.3, figure 5 and table 1.
Differs: Adam in place of RMSProp.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.autoregressive.pixels import Block, ConvSteps, MaskedConv, PixelModel
from lightning_modules.optim import Adam, Optim


class Bottleneck(Block):
    """A residual block [B, 2h, H, W]: ReLU, 1x1 to h, ReLU, 3x3, ReLU, 1x1 to 2h, all with mask B."""

    def __init__(self, width: int, colours: int) -> None:
        super().__init__()
        self.enter = MaskedConv(2 * width, width, colours=colours)
        self.look = MaskedConv(width, width, (3, 3), colours=colours)
        self.leave = MaskedConv(width, 2 * width, colours=colours)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.leave(self.look(self.enter(h.relu()).relu()).relu())

    def steps(self, n: int, width: int) -> BottleneckSteps:
        return BottleneckSteps(self, n, width)


class BottleneckSteps:
    """A bottleneck that is computed one pixel at a time."""

    def __init__(self, block: Bottleneck, n: int, width: int) -> None:
        self.enter, self.look, self.leave = (ConvSteps(c, n, width) for c in (block.enter, block.look, block.leave))

    def row(self) -> None:
        self.look.row()

    def at(self, j: int, x: Tensor) -> Tensor:
        h = self.enter.at(j, torch.relu(x)).relu_()
        h = self.look.at(j, h).relu_()
        return self.leave.at(j, h).add_(x)


class PixelCNN(PixelModel):
    """PixelCNN of images [B, C, H, W] of grey levels.

    Args:
        shape: (C, H, W).
        depth: residual blocks.
        width: h; the blocks have 2h features.
        head: features between the last two convolutions.
        levels, optim: as in `Discrete`.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        depth: int = 15,
        width: int = 128,
        head: int = 1024,
        levels: int = 256,
        optim: Optim = Adam(),
    ) -> None:
        blocks = [Bottleneck(width, shape[0]) for _ in range(depth)]
        super().__init__(shape, blocks, width=width, head=head, levels=levels, optim=optim)
