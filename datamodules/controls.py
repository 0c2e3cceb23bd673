"""Controls: pictures in {0, 1} that are computed from pictures, for a model that shall follow them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.base import Batch, Source

Kind = Literal["edges", "mask"]
DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1))
"""Neighbours (row, column) at 0, 45, 90 and 135 degrees."""


def edges(x: Tensor, *, low: float = 0.05, high: float = 0.15, blur: float = 1.0) -> Tensor:
    """The edges [B, 1, H, W] in {0, 1} of pictures x [B, C, H, W] in [-1, 1].

    A pixel is an edge where the gradient of a channel, smoothed, is largest in its own direction and at least `high`, or at least
    `low` and joined to such a pixel.

    Source: Canny 1986, A Computational Approach to Edge Detection, sections VI and VIII.
    Differs: the gradient is that of the channel in which it is steepest, by Sobel's kernels.

    Args:
        low, high: of the gradient, in grey levels of [-1, 1] for each pixel.
        blur: standard deviation in pixels of the Gaussian that smooths.
    """
    down, right = gradient(smoothed(x, blur))
    steepest = (down.square() + right.square()).argmax(1, keepdim=True)
    down, right = down.gather(1, steepest), right.gather(1, steepest)
    size = (down.square() + right.square()).sqrt()
    ridge = size * largest_across(size, down, right)
    found, weak = (ridge >= high).float(), (ridge >= low).float()
    while True:  # at most as often as the longest weak line has pixels
        grown = widened(found) * weak
        if torch.equal(grown, found):
            return found
        found = grown


def smoothed(x: Tensor, std: float) -> Tensor:
    """x [B, C, H, W] convolved with a Gaussian; beyond its border a picture continues as its border."""
    reach = max(1, round(3 * std))
    line = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    kernel = (-(line**2) / (2 * std**2)).exp()
    kernel, channels = (kernel / kernel.sum()).repeat(x.shape[1], 1, 1, 1), x.shape[1]
    padded = F.pad(x, [reach] * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.mT, groups=channels), kernel, groups=channels)


def gradient(x: Tensor) -> tuple[Tensor, Tensor]:
    """The derivatives of x [B, C, H, W] downwards and to the right, for each pixel, by Sobel's kernels."""
    kernel = x.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    padded, channels = F.pad(x, [1] * 4, mode="replicate"), x.shape[1]
    across = kernel.repeat(channels, 1, 1, 1)
    return F.conv2d(padded, across.mT, groups=channels), F.conv2d(padded, across, groups=channels)


def largest_across(size: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Where the size [B, 1, H, W] of a gradient is no smaller than that of both neighbours in its direction; bool."""
    sector = (torch.atan2(down, right) / (torch.pi / 4)).round().long() % 4
    kept = torch.zeros_like(size, dtype=torch.bool)
    padded = F.pad(size, [1] * 4)
    height, width = size.shape[2:]
    for k, (y, x) in enumerate(DIRECTIONS):
        after = padded[..., 1 + y : 1 + y + height, 1 + x : 1 + x + width]
        before = padded[..., 1 - y : 1 - y + height, 1 - x : 1 - x + width]
        kept |= (sector == k) & (size > before) & (size >= after)  # of two equal ones the first
    return kept


def mask(x: Tensor) -> Tensor:
    """The things [B, 1, H, W] in {0, 1} on the ground of pictures x [B, C, H, W]: the pixels far from the colour of the border.

    That colour is the median of the border's pixels; how far is far, `separating` finds for each picture.
    """
    border = torch.cat([x[:, :, 0], x[:, :, -1], x[:, :, :, 0], x[:, :, :, -1]], 2)
    ground = border.median(2).values[:, :, None, None]
    distance = (x - ground).square().sum(1, keepdim=True).sqrt()
    return (distance > separating(distance.flatten(1))[:, None, None, None]).float()


def separating(values: Tensor, bins: int = 64) -> Tensor:
    """The threshold [B] that divides values [B, N] into two classes whose means differ most, in bins of the range.

    Source: Otsu 1979, A Threshold Selection Method from Gray-Level Histograms, eq. 14 and 18.
    """
    low, high = values.min(1, keepdim=True).values, values.max(1, keepdim=True).values
    step = (high - low).clamp(min=1e-12) / bins
    place = ((values - low) / step).long().clamp(0, bins - 1)
    share = F.one_hot(place, bins).double().mean(1)
    centre = torch.arange(bins, device=values.device) + 0.5
    below, mean = share.cumsum(1), (share * centre).cumsum(1)
    between = (mean[:, -1:] * below - mean).square() / (below * (1 - below)).clamp(min=1e-12)
    return (low + step * (between[:, :-1].argmax(1, keepdim=True) + 1)).squeeze(1).to(values)


CONTROLS: dict[Kind, Callable[[Tensor], Tensor]] = {"edges": edges, "mask": mask}
"""What makes each kind of control of pictures."""


@dataclass
class Controlled:
    """A source whose batches hold 'control' too, computed from 'x'.

    Args:
        source: of pictures.
        kind: of the control.
    """

    source: Source
    kind: Kind

    def rows(self, seed: int, step: int, batch: int, first: int, last: int) -> Batch:
        """Rows first..last-1 of the global batch."""
        found = self.source.rows(seed, step, batch, first, last)
        return {**found, "control": CONTROLS[self.kind](found["x"])}


def widened(picture: Tensor) -> Tensor:
    """A picture [B, 1, H, W] in {0, 1} whose ones reach one pixel further in every direction."""
    return F.max_pool2d(picture, 3, 1, 1)


def overlap(one: Tensor, other: Tensor) -> Tensor:
    """The area that masks [B, *D] in {0, 1} share, over that of both together, [B]; 1 where both are empty."""
    one, other = one.flatten(1).bool(), other.flatten(1).bool()
    both = (one | other).sum(1)
    return torch.where(both > 0, (one & other).sum(1) / both.clamp(min=1), 1.0)
