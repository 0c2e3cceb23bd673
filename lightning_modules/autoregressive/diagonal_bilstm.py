"""PixelRNN with Diagonal BiLSTM layers: LSTMs along the diagonals from both upper corners, which see all earlier pixels but one.

That one is the last pixel of the row above: it enters no feature of its own row, and is seen only by the first 7x7 convolution.

System: Diagonal BiLSTM
Source: van den Oord et al. 2016, arXiv:1601.06759, section 3.2, figure 3, and table 1.
Differs: Adam in place of RMSProp.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.autoregressive.pixels import Block, ConvSteps, MaskedConv, PixelModel
from lightning_modules.autoregressive.row_lstm import lstm
from lightning_modules.optim import Adam, Optim


def skew(x: Tensor) -> Tensor:
    """[..., H, W] -> [..., H, W + H - 1]: row i begins i columns further right, so that diagonals become columns."""
    *lead, h, w = x.shape
    return F.pad(x, (0, h)).flatten(-2)[..., :-h].reshape(*lead, h, w + h - 1)


def unskew(x: Tensor, width: int) -> Tensor:
    """The inverse of `skew`: [..., H, W + H - 1] -> [..., H, W]."""
    *lead, h, w = x.shape
    return F.pad(x.flatten(-2), (0, h)).reshape(*lead, h, w + 1)[..., :width]


class Diagonal(nn.Module):
    """An LSTM from the upper left corner, [B, 2h, H, W] -> [B, h, H, W]: each pixel gets the state of its left and its upper neighbour."""

    def __init__(self, width: int, colours: int) -> None:
        super().__init__()
        self.width = width
        self.enter = MaskedConv(2 * width, 4 * width, colours=colours, parts=4)
        self.state = nn.Conv1d(width, 4 * width, 2, bias=False)  # the upper, then the left one

    def forward(self, x: Tensor) -> Tensor:
        h = cell = x.new_zeros(len(x), self.width, x.shape[2])
        out = []
        for gates in skew(self.enter(x)).unbind(3):  # beyond the left edge gates are 0, and so h and cell stay 0
            h, cell = lstm(gates + self.state(F.pad(h, (1, 0))), cell)
            out.append(h)
        return unskew(torch.stack(out, 3), x.shape[3])


class DiagonalLayer(Block):
    """A residual layer [B, 2h, H, W] of both directions; the right one is moved down by a row so that it sees no later pixel."""

    def __init__(self, width: int, colours: int) -> None:
        super().__init__()
        self.left, self.right = Diagonal(width, colours), Diagonal(width, colours)
        self.leave = MaskedConv(width, 2 * width, colours=colours)

    def forward(self, x: Tensor) -> Tensor:
        right = F.pad(self.right(x.flip(3)).flip(3), (0, 0, 1, 0))[:, :, :-1]
        return x + self.leave(self.left(x) + right)

    def steps(self, n: int, width: int) -> DiagonalSteps:
        return DiagonalSteps(self, n, width)


class Scan:
    """One direction, computed a row at a time: states [n, W + 1, h], the first of which is beyond the edge."""

    def __init__(self, of: Diagonal, n: int, width: int) -> None:
        weight = of.state.weight.detach()
        self.up, self.side = weight[:, :, 0].T.contiguous(), weight[:, :, 1].T.contiguous()
        self.enter = ConvSteps(of.enter, n, width)
        self.h, self.cell = (weight.new_zeros(n, width + 1, of.width) for _ in range(2))
        self.row()

    def row(self) -> None:
        self.above = self.h[:, 1:] @ self.up

    def at(self, j: int, x: Tensor) -> Tensor:
        gates = self.enter.at(j, x).add_(self.above[:, j]).addmm_(self.h[:, j], self.side)
        h, self.cell[:, j + 1] = lstm(gates, self.cell[:, j])
        self.h[:, j + 1] = h
        return h


class DiagonalSteps:
    """A layer that is computed one pixel at a time; the right direction follows when a row is complete."""

    def __init__(self, layer: DiagonalLayer, n: int, width: int) -> None:
        self.left, self.right = Scan(layer.left, n, width), Scan(layer.right, n, width)
        self.leave = ConvSteps(layer.leave, n, width)
        self.seen = layer.leave.weight.new_zeros(n, width, layer.leave.weight.shape[0])
        self.corner = self.left.h.new_zeros(n, width, layer.left.width)
        self.first = True

    def row(self) -> None:
        if not self.first:
            self.left.row()
            for j, x in enumerate(self.seen.flip(1).unbind(1)):
                self.right.at(j, x)
            self.right.row()
            self.corner = self.right.h[:, 1:].flip(1)
        self.first = False

    def at(self, j: int, x: Tensor) -> Tensor:
        self.seen[:, j] = x
        return self.leave.at(j, self.left.at(j, x) + self.corner[:, j]).add_(x)


class DiagonalBiLSTM(PixelModel):
    """Diagonal BiLSTM of images [B, C, H, W] of grey levels.

    Args:
        shape: (C, H, W).
        depth: layers.
        width: h, the units of each direction; the map between layers has 2h features.
        head: features between the last two convolutions.
        levels, optim: as in `Discrete`.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        depth: int = 12,
        width: int = 128,
        head: int = 1024,
        levels: int = 256,
        optim: Optim = Adam(),
    ) -> None:
        layers = [DiagonalLayer(width, shape[0]) for _ in range(depth)]
        super().__init__(shape, layers, width=width, head=head, levels=levels, optim=optim)
