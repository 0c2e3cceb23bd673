"""What every sampler is made of: the way from noise to data, its start, its pairs of levels, and the noise in between."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from lightning_modules.diffusion.preconditioning import Denoiser


class Sampler(Protocol):
    """A way from noise to data: denoiser, y [B, *D] at the level grid[0], descending grid [N + 1] that ends in 0 -> examples [B, *D]."""

    def __call__(self, denoise: Denoiser, y: Tensor, grid: Tensor, *, rng: torch.Generator | None = None) -> Tensor: ...


def start(like: Tensor, grid: Tensor, *, data_std: float, rng: torch.Generator | None = None) -> Tensor:
    """y at the level grid[0], of the shape and type of `like`: N(0, data_std^2 + grid[0]^2).

    Args:
        data_std: standard deviation that the data are taken to have: 1 where x_T ~ N(0, I) in variance-preserving units,
            0 where y ~ N(0, sigma_max^2).
    """
    return normal(like, rng) * (data_std**2 + grid[0].item() ** 2) ** 0.5


def pairs(grid: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Neighbouring levels (sigma, sigma_next), each [] on the CPU, so that comparing them waits for no device."""
    levels = grid.cpu().double()
    return itertools.pairwise(levels)


def cut(grid: Tensor, until: float) -> Tensor:
    """The part of a descending grid [N + 1] above the level `until`, then that level in place of what is below.

    Raises:
        ValueError: the grid starts no higher, or the level is negative.
    """
    if not 0 <= until < grid[0].item():
        raise ValueError(
            f"Sampling from the noise level {grid[0].item():.4g} can stop at one from 0 to below that, not at {until:g}."
        )
    return torch.cat([grid[grid > until], grid.new_tensor([until])])


def at(denoise: Denoiser, y: Tensor, sigma: Tensor) -> Tensor:
    """The denoiser at a level [B], or at one level [] of all examples."""
    return denoise(y, sigma if sigma.ndim else y.new_full((len(y),), sigma.item()))


def score(denoise: Denoiser, y: Tensor, sigma: Tensor) -> Tensor:
    """The gradient of the log density of y, by Tweedie's formula: (D(y, sigma) - y) / sigma^2."""
    return (at(denoise, y, sigma) - y) / sigma.item() ** 2


def lerp(x0: Tensor, y: Tensor, share: Tensor) -> Tensor:
    """x0 + share (y - x0)."""
    return torch.lerp(x0, y, share.item())


def normal(like: Tensor, rng: torch.Generator | None) -> Tensor:
    """Standard normal noise of the shape and type of `like`, drawn where `rng` lives and moved to `like`."""
    device = rng.device if rng is not None else like.device
    return torch.randn(like.shape, generator=rng, dtype=like.dtype, device=device).to(like.device)
