"""PixelRNN with Row LSTM layers: a convolutional LSTM that goes down the image, a row at a time.

System: Row LSTM
Source: van den Oord et al. 2016, arXiv:1601.06759, section 3.1, eq. 3, and table 1.
Differs: Adam in place of RMSProp.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.autoregressive.pixels import Block, ConvSteps, MaskedConv, PixelModel
from lightning_modules.optim import Adam, Optim


def lstm(gates: Tensor, cell: Tensor, dim: int = 1) -> tuple[Tensor, Tensor]:
    """Output and new cell [B, h, *] of an LSTM.

    Args:
        gates: [B, 4h, *], before the sigmoids and the tanh: output, forget and input gate, and content, along `dim`.
        cell: [B, h, *].
        dim: of the features.
    """
    o, f, i, g = gates.chunk(4, dim)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell


class RowLayer(Block):
    """A residual layer [B, 2h, H, W]: an LSTM over rows, with a masked 1x3 convolution of the input and a full one of the row above."""

    def __init__(self, width: int, colours: int) -> None:
        super().__init__()
        self.width = width
        self.enter = MaskedConv(2 * width, 4 * width, (1, 3), colours=colours, parts=4)
        self.state = nn.Conv1d(width, 4 * width, 3, padding=1, bias=False)
        self.leave = MaskedConv(width, 2 * width, colours=colours)

    def forward(self, x: Tensor) -> Tensor:
        gates = self.enter(x)
        h = cell = x.new_zeros(len(x), self.width, x.shape[3])
        out = []
        for row in gates.unbind(2):
            h, cell = lstm(row + self.state(h), cell)
            out.append(h)
        return x + self.leave(torch.stack(out, 2))

    def steps(self, n: int, width: int) -> RowSteps:
        return RowSteps(self, n, width)


class RowSteps:
    """A row layer that is computed one pixel at a time; the row above is convolved once."""

    def __init__(self, layer: RowLayer, n: int, width: int) -> None:
        self.enter, self.leave = ConvSteps(layer.enter, n, width), ConvSteps(layer.leave, n, width)
        self.weight = layer.state.weight.detach()
        self.h, self.cell = (self.weight.new_zeros(n, width, layer.width) for _ in range(2))

    def row(self) -> None:
        self.enter.row()
        self.above = F.conv1d(self.h.transpose(1, 2), self.weight, padding=1).transpose(1, 2).contiguous()
        self.cell_above = self.cell.clone()

    def at(self, j: int, x: Tensor) -> Tensor:
        gates = self.enter.at(j, x).add_(self.above[:, j])
        h, self.cell[:, j] = lstm(gates, self.cell_above[:, j])
        self.h[:, j] = h
        return self.leave.at(j, h).add_(x)


class RowLSTM(PixelModel):
    """Row LSTM of images [B, C, H, W] of grey levels.

    Args:
        shape: (C, H, W).
        depth: layers.
        width: h, the units of each; the map between layers has 2h features.
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
        layers = [RowLayer(width, shape[0]) for _ in range(depth)]
        super().__init__(shape, layers, width=width, head=head, levels=levels, optim=optim)
