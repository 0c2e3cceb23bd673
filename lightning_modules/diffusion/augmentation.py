"""EDM's non-leaky augmentation: images are mirrored, scaled, turned, stretched and shifted, and the network is given by how much.

Source: Karras et al. 2022, arXiv:2206.00364, appendix F.2; the laws and labels are those of the authors' code (training/augment.py).
Differs: pixels between those of the grid are read by cubic convolution, not by wavelets at twice the resolution; beyond the edge
the image is reflected as often as needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.conditions import Cond
from lightning_modules.draws import Draws

SCALE_STD = 0.2
"""Standard deviation of the binary logarithm of the scale, and of that of the stretch."""
SHIFT_STD = 0.125
"""Standard deviation of the shift, over the height or width of the image."""
LABELS = 9
"""Numbers that say how an image was changed."""


class Augment(Protocol):
    """Changes of examples, or of their conditions, that the network is given as `Cond.numbers`."""

    def __call__(self, x: Tensor, cond: Cond, draws: Draws) -> tuple[Tensor, Cond]:
        """Examples [B, *D] and their conditions as they are trained on."""
        ...

    def unchanged(self, cond: Cond, like: Tensor) -> Cond:
        """The conditions, without numbers, of examples such as `like` [B, *D] that are not changed, with the numbers that say so."""
        ...


class Changes(NamedTuple):
    """How each of B images is changed, in this order; all are 0 or False where it is not."""

    mirrored: Tensor
    """Left to right, [B], bool."""
    upturned: Tensor
    """Top to bottom, [B], bool."""
    scale: Tensor
    """[B]: enlarged by 2^(0.2 scale)."""
    angle: Tensor
    """[B], radians, against the clock."""
    stretch: Tensor
    """[B]: enlarged by 2^(0.2 stretch) along an axis, and made smaller by as much across it."""
    axis: Tensor
    """[B], radians, against the clock from the horizontal."""
    right: Tensor
    """[B]: shifted by this, in eighths of the width."""
    down: Tensor
    """[B]: shifted by this, in eighths of the height."""

    @property
    def labels(self) -> Tensor:
        """The numbers [B, 9] that a network is given; zeros for an image that is not changed."""
        columns = [
            self.mirrored, self.upturned, self.scale, self.angle.cos() - 1, self.angle.sin(),
            self.stretch * self.axis.cos(), self.stretch * self.axis.sin(), self.right, self.down,
        ]  # fmt: skip
        return torch.stack([column.to(self.scale) for column in columns], 1)


def drawn(n: int, probability: float, draws: Draws, device: torch.device | str = "cpu") -> Changes:
    """Changes of n images, each of them made with this probability; half of all images are mirrored, unless it is 0."""
    coins, (turn, axis) = draws.uniform(n, 8, device=device), draws.uniform(n, 2, device=device).unbind(1)
    scale, stretch, right, down = draws.normal(n, 4, device=device).unbind(1)
    chosen = coins[:, :5] < probability
    heads = coins[:, 5:] < 0.5
    full = (2 * turn - 1) * math.pi
    return Changes(
        mirrored=heads[:, 0] & (probability > 0),
        upturned=heads[:, 1] & chosen[:, 0],
        scale=scale * chosen[:, 1],
        angle=full * chosen[:, 2],
        stretch=stretch * chosen[:, 3],
        axis=(2 * axis - 1) * math.pi * heads[:, 2],
        right=right * chosen[:, 4],
        down=down * chosen[:, 4],
    )


def applied(x: Tensor, changes: Changes) -> Tensor:
    """Images x [B, C, H, W] after these changes; to the bit x where there are none."""
    wide = [-1, *[1] * (x.ndim - 1)]
    x = torch.where(changes.mirrored.reshape(wide), x.flip(3), x)
    x = torch.where(changes.upturned.reshape(wide), x.flip(2), x)
    moved = torch.stack([changes.scale, changes.angle, changes.stretch, changes.right, changes.down]).ne(0).any(0)
    return torch.where(moved.reshape(wide), resampled(x, sources(changes, *x.shape[2:])), x)


def sources(changes: Changes, height: int, width: int) -> Tensor:
    """Affine maps [B, 2, 3] from the place of a pixel of a changed image to where it is read, in pixels right of and below the centre."""
    turned, axis = rotation(changes.angle), rotation(changes.axis)
    zoom, stretch = (SCALE_STD * changes.scale).exp2(), (SCALE_STD * changes.stretch).exp2()
    stretched = axis @ torch.diag_embed(torch.stack([stretch, 1 / stretch], 1)) @ axis.mT
    back = torch.linalg.inv(stretched @ turned * zoom[:, None, None])
    shift = SHIFT_STD * torch.stack([width * changes.right, height * changes.down], 1)
    return torch.cat([back, -back @ shift[:, :, None]], 2)


def rotation(angle: Tensor) -> Tensor:
    """Matrices [B, 2, 2] that turn (right, down) by angles [B] against the clock."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, sin], 1), torch.stack([-sin, cos], 1)], 1)


def resampled(x: Tensor, maps: Tensor) -> Tensor:
    """Images [B, C, H, W], each pixel of which is read in x where an affine map [B, 2, 3] of `sources` leads."""
    height, width = x.shape[2:]
    half = torch.tensor([max(width - 1, 1), max(height - 1, 1)], device=x.device, dtype=x.dtype) / 2
    down, right = torch.meshgrid(
        torch.arange(height, device=x.device, dtype=x.dtype) - (height - 1) / 2,
        torch.arange(width, device=x.device, dtype=x.dtype) - (width - 1) / 2,
        indexing="ij",
    )
    places = torch.stack([right, down, torch.ones_like(right)], 2)
    at = torch.einsum("bij,hwj->bhwi", maps.to(x), places) / half
    return F.grid_sample(x, at, mode="bicubic", padding_mode="reflection", align_corners=True)


@dataclass(frozen=True)
class Augmentation:
    """Random changes of images, for `Learn.augment`: the network learns the law of images for each change, and draws with none.

    Args:
        probability: of each change; 0.12 to 0.15 in the paper.

    Raises:
        ValueError: it is not in [0, 1].
    """

    probability: float

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"The probability of augmentation is {self.probability}; it must be in [0, 1].")

    def __call__(self, x: Tensor, cond: Cond, draws: Draws) -> tuple[Tensor, Cond]:
        """Changed images [B, C, H, W], and their conditions with the numbers [B, 9] that say how; see `Cond.numbers`."""
        changes = drawn(len(x), self.probability, draws, x.device)
        return applied(x, changes), replace(cond, numbers=changes.labels.to(x))

    def unchanged(self, cond: Cond, like: Tensor) -> Cond:
        """The conditions with the numbers of images that are not changed: zeros, one row for each of `like`."""
        return replace(cond, numbers=like.new_zeros(len(like), LABELS))
