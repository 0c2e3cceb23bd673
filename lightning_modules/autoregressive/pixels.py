"""The base class of PixelCNN and PixelRNN: masked convolutions, and how they are computed one pixel at a time.

Source: van den Oord et al. 2016, arXiv:1601.06759, section 3.4 and table 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.autoregressive.discrete import Discrete, sample_categorical
from lightning_modules.optim import Optim


def colour(features: int, colours: int) -> Tensor:
    """The colour of each feature, [features]: contiguous groups of equal size, to one."""
    return torch.arange(features) * colours // features


class MaskedConv(nn.Module):
    """A convolution [B, inputs, H, W] -> [B, outputs, H, W] that sees all colours of earlier pixels, and the earlier colours of its own.

    Args:
        kernel: height and width, odd; the rows below the own one, which are all masked, are not stored.
        colours: of the image.
        strict: use mask A, which hides the own colour too, in place of mask B.
        parts: number of blocks of the outputs (gates), each of which has all colours.
    """

    mask: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int] = (1, 1),
        *,
        colours: int,
        strict: bool = False,
        parts: int = 1,
    ) -> None:
        super().__init__()
        self.up, self.side = kernel[0] // 2, kernel[1] // 2
        conv = nn.Conv2d(inputs, outputs, (self.up + 1, kernel[1]))
        self.weight, self.bias = conv.weight, conv.bias
        mine, theirs = colour(outputs // parts, colours).repeat(parts)[:, None], colour(inputs, colours)
        mask = torch.ones(conv.weight.shape)
        mask[:, :, -1, self.side :] = 0
        mask[:, :, -1, self.side] = (mine > theirs if strict else mine >= theirs).float()
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        if self.up or self.side:
            x = F.pad(x, (self.side, self.side, self.up, 0))
        return F.conv2d(x, self.weight * self.mask, self.bias)


class Steps(Protocol):
    """A layer that is computed one pixel at a time, while an image is drawn."""

    def row(self) -> None:
        """Begin the next row; all rows above are complete."""
        ...

    def at(self, j: int, x: Tensor) -> Tensor:
        """Features [n, outputs] in column j from the inputs [n, inputs] there; called again for each colour."""
        ...


class ConvSteps:
    """A masked convolution that is computed one pixel at a time: the rows above once for a whole row, the own row by one product."""

    def __init__(self, conv: MaskedConv, n: int, width: int) -> None:
        weight = (conv.weight * conv.mask).detach()
        outputs, inputs, up, side = *weight.shape[:2], conv.up, conv.side
        self.bias, self.up, self.side, self.above = conv.bias.detach(), up, side, weight[:, :, :up]
        self.own = weight[:, :, up, : side + 1].permute(2, 1, 0).reshape(-1, outputs).contiguous()
        self.rows = weight.new_zeros(n, up + 1, width + 2 * side, inputs)
        self.sums = self.bias.repeat(n, width, 1)  # a copy, which an expanded bias is not where n and width are 1
        now = self.rows[:, up]
        self.slots = [now[:, j + side] for j in range(width)]
        self.patches = [now[:, j : j + side + 1].flatten(1) for j in range(width)]
        self.sum_at = [self.sums[:, j] for j in range(width)]
        self.out = weight.new_empty(n, outputs)

    def row(self) -> None:
        if not self.up:
            return
        for i in range(self.up):
            self.rows[:, i] = self.rows[:, i + 1]
        above = F.conv2d(self.rows[:, : self.up].permute(0, 3, 1, 2), self.above, self.bias)
        self.sums.copy_(above[:, :, 0].transpose(1, 2))

    def at(self, j: int, x: Tensor) -> Tensor:
        if self.side:
            self.slots[j].copy_(x)
            x = self.patches[j]
        return torch.addmm(self.sum_at[j], x, self.own, out=self.out)


class Block(nn.Module):
    """A residual layer [B, 2h, H, W] -> [B, 2h, H, W] that can also be computed one pixel at a time."""

    def steps(self, n: int, width: int) -> Steps:
        """The layer for drawing n images of a width, before the first row."""
        raise NotImplementedError(f"{type(self).__name__} has no steps")


class PixelModel(Discrete):
    """A model of images [B, C, H, W] of grey levels: a 7x7 convolution with mask A, residual blocks, two 1x1 convolutions, a softmax.

    Args:
        shape: (C, H, W).
        blocks: residual layers, of 2 `width` features.
        width: h.
        head: features between the last two convolutions.
        levels, optim: as in `Discrete`.

    Raises:
        ValueError: the shape is not that of an image, or there are fewer features than colours.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        blocks: Sequence[Block],
        *,
        width: int,
        head: int,
        levels: int,
        optim: Optim,
    ) -> None:
        super().__init__(shape, levels=levels, optim=optim)
        colours = check_image(shape, width)
        self.enter = MaskedConv(colours, 2 * width, (7, 7), colours=colours, strict=True)
        self.blocks = nn.ModuleList(blocks)
        self.head = MaskedConv(2 * width, head, colours=colours)
        self.leave = MaskedConv(head, colours * levels, colours=colours)

    def order(self) -> Tensor:
        """Row by row, pixel by pixel, colour by colour."""
        return super().order().view(self.shape).permute(1, 2, 0).flatten()

    def logits(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        self.of_shape(x)
        h = self.enter(x)
        for block in self.blocks:
            h = block(h)
        h = self.leave(self.head(h.relu()).relu())
        return h.unflatten(1, (self.shape[0], self.levels)).movedim(2, -1)

    def sample_fast(self, uniform: Tensor, cond: Tensor | None = None) -> Tensor:
        """Levels [n, C, H, W]; each pixel's features are computed once for each colour, and kept."""
        n, (colours, height, width) = len(uniform), self.shape
        uniform = uniform.view(n, *self.shape)
        found = torch.zeros(n, height, width, colours, dtype=torch.long, device=uniform.device)
        layers: list[Steps] = [ConvSteps(self.enter, n, width)]
        layers += [block.steps(n, width) for block in self.blocks]  # type: ignore[operator]
        head, leave = ConvSteps(self.head, n, width), ConvSteps(self.leave, n, width)
        values = self.value(torch.arange(self.levels, device=uniform.device))
        pixel = uniform.new_zeros(n, colours)
        for i in range(height):
            for layer in layers:
                layer.row()
            for j in range(width):
                pixel.zero_()
                for c in range(colours):
                    h = pixel
                    for layer in layers:
                        h = layer.at(j, h)
                    logits = leave.at(j, head.at(j, h.relu()).relu_())
                    level = sample_categorical(logits[:, c * self.levels : (c + 1) * self.levels], uniform[:, c, i, j])
                    found[:, i, j, c] = level
                    pixel[:, c] = values[level]
                layers[0].at(j, pixel)  # the last colour, for the pixels to come
        return found.permute(0, 3, 1, 2)


def check_image(shape: tuple[int, ...], width: int) -> int:
    """The number of colours of images of this shape.

    Raises:
        ValueError: the shape is not that of an image, or `width` is below the number of colours.
    """
    if len(shape) != 3:
        raise ValueError(f"Images have a shape (C, H, W), not {tuple(shape)}.")
    if width < shape[0]:
        raise ValueError(f"{shape[0]} colours need at least as many features, not width {width}.")
    return shape[0]
