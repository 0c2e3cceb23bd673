"""Images, pixel after pixel and colour after colour: masked convolutions, and how they take one pixel at a time.

Source: van den Oord et al. 2016, arXiv:1601.06759, section 3.4 and table 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.autoregressive.discrete import Discrete, pick


def colour(features: int, colours: int) -> Tensor:
    """Which colour each feature belongs to, [features]: contiguous groups, as even as can be."""
    return torch.arange(features) * colours // features


class MaskedConv(nn.Module):
    """A convolution [B, inputs, H, W] -> [B, outputs, H, W] that sees earlier pixels whole, and of its own pixel earlier colours.

    Args:
        kernel: height and width, odd; rows below the own are not even stored.
        colours: of the image.
        strict: mask A, which hides the own colour too; else mask B.
        parts: the outputs are so many blocks (gates), each of which has all colours.
    """

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
        made = nn.Conv2d(inputs, outputs, (self.up + 1, kernel[1]))
        self.weight, self.bias = made.weight, made.bias
        mine, theirs = colour(outputs // parts, colours).repeat(parts)[:, None], colour(inputs, colours)
        mask = torch.ones(made.weight.shape)
        mask[:, :, -1, self.side :] = 0
        mask[:, :, -1, self.side] = (mine > theirs if strict else mine >= theirs).float()
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        if self.up or self.side:
            x = F.pad(x, (self.side, self.side, self.up, 0))
        return F.conv2d(x, self.weight * self.mask, self.bias)


class Steps(Protocol):
    """One layer while an image is drawn. `row` opens the next row, with all rows above complete; `at` gives the features
    [n, outputs] of column j of it from the inputs [n, inputs] there, and may be asked again as colours become known."""

    def row(self) -> None: ...

    def at(self, j: int, x: Tensor) -> Tensor: ...


class ConvSteps:
    """A masked convolution one pixel at a time: the rows above are convolved once for a whole row, the own is one product."""

    def __init__(self, conv: MaskedConv, n: int, width: int) -> None:
        weight = (conv.weight * conv.mask).detach()
        outputs, inputs, up, side = *weight.shape[:2], conv.up, conv.side
        self.bias, self.up, self.side, self.above = conv.bias.detach(), up, side, weight[:, :, :up]
        self.own = weight[:, :, up, : side + 1].permute(2, 1, 0).reshape(-1, outputs).contiguous()
        self.rows = weight.new_zeros(n, up + 1, width + 2 * side, inputs)
        self.told = self.bias.expand(n, width, outputs).contiguous()
        now = self.rows[:, up]
        self.slots = [now[:, j + side] for j in range(width)]
        self.patches = [now[:, j : j + side + 1].flatten(1) for j in range(width)]
        self.tells = [self.told[:, j] for j in range(width)]
        self.out = weight.new_empty(n, outputs)

    def row(self) -> None:
        if not self.up:
            return
        for i in range(self.up):
            self.rows[:, i] = self.rows[:, i + 1]
        above = F.conv2d(self.rows[:, : self.up].permute(0, 3, 1, 2), self.above, self.bias)
        self.told.copy_(above[:, :, 0].transpose(1, 2))

    def at(self, j: int, x: Tensor) -> Tensor:
        if self.side:
            self.slots[j].copy_(x)
            x = self.patches[j]
        return torch.addmm(self.tells[j], x, self.own, out=self.out)


class Block(nn.Module):
    """A residual layer [B, 2h, H, W] -> the same, that can take one pixel at a time."""

    def steps(self, n: int, width: int) -> Steps:
        raise NotImplementedError(f"{type(self).__name__} has no steps")


class Pixels(Discrete):
    """Images [B, C, H, W] of grey levels: a 7x7 convolution with mask A, residual blocks, two 1x1 convolutions, a softmax.

    Args:
        shape: (C, H, W).
        blocks: residual layers, of 2 `width` features.
        width: h.
        head: features between the last two convolutions.
        levels, lr, warmup: as in `Discrete`.

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
        lr: float,
        warmup: int,
    ) -> None:
        super().__init__(shape, levels=levels, lr=lr, warmup=warmup)
        colours = check_image(shape, width)
        self.enter = MaskedConv(colours, 2 * width, (7, 7), colours=colours, strict=True)
        self.blocks = nn.ModuleList(blocks)
        self.head = MaskedConv(2 * width, head, colours=colours)
        self.leave = MaskedConv(head, colours * levels, colours=colours)

    def places(self) -> Tensor:
        """Row by row, pixel by pixel, colour by colour."""
        return super().places().view(self.shape).permute(1, 2, 0).flatten()

    def logits(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        self.of_shape(x)
        h = self.enter(x)
        for block in self.blocks:
            h = block(h)
        h = self.leave(self.head(h.relu()).relu())
        return h.unflatten(1, (self.shape[0], self.levels)).movedim(2, -1)

    def fill(self, even: Tensor, cond: Tensor | None = None) -> Tensor:
        """Each pixel's features are computed once for each colour, and kept."""
        n, (colours, height, width) = len(even), self.shape
        even = even.view(n, *self.shape)
        found = torch.zeros(n, height, width, colours, dtype=torch.long, device=even.device)
        layers: list[Steps] = [ConvSteps(self.enter, n, width)]
        layers += [block.steps(n, width) for block in self.blocks]  # type: ignore[operator]
        head, leave = ConvSteps(self.head, n, width), ConvSteps(self.leave, n, width)
        values = self.value(torch.arange(self.levels, device=even.device))
        pixel = even.new_zeros(n, colours)
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
                    level = pick(logits[:, c * self.levels : (c + 1) * self.levels], even[:, c, i, j])
                    found[:, i, j, c] = level
                    pixel[:, c] = values[level]
                layers[0].at(j, pixel)  # the last colour, for the pixels to come
        return found.permute(0, 3, 1, 2)


def check_image(shape: tuple[int, ...], width: int) -> int:
    """The number of colours of images of this shape, if there are enough features for them."""
    if len(shape) != 3:
        raise ValueError(f"Images have a shape (C, H, W), not {tuple(shape)}.")
    if width < shape[0]:
        raise ValueError(f"{shape[0]} colours need at least as many features, not width {width}.")
    return shape[0]
