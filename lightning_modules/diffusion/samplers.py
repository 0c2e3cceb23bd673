"""From noise to data: each takes a denoiser, y [B, *D] at the level grid[0], and a descending grid [N + 1] that ends in 0."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from lightning_modules.diffusion import schedules
from lightning_modules.diffusion.weighting import Denoiser


@torch.inference_mode()
def ancestral(
    denoise: Denoiser,
    y: Tensor,
    grid: Tensor,
    *,
    variance: Callable[[Tensor, Tensor], Tensor] = schedules.posterior,
    rng: torch.Generator | None = None,
) -> Tensor:
    """Draws of the learned reverse process, [B, *D]; no noise is added in the last step.

    Source: Ho et al. 2020, arXiv:2006.11239, algorithm 2.

    Args:
        variance: of one step from level s to r: `noise.posterior` or `noise.forward`.
    """
    for s, r in pairs(grid):
        mean = lerp(at(denoise, y, s), y, r**2 / s**2)
        y = mean + variance(s, r).sqrt() * normal(y, rng) if r > 0 else mean
    return y


@torch.inference_mode()
def ddim(denoise: Denoiser, y: Tensor, grid: Tensor, *, eta: float = 0.0, rng: torch.Generator | None = None) -> Tensor:
    """Deterministic for eta = 0, ancestral with the posterior variance for eta = 1; [B, *D].

    Source: Song, Meng & Ermon 2021, arXiv:2010.02502, eq. 12 and 16.
    """
    for s, r in pairs(grid):
        up = eta * schedules.posterior(s, r).sqrt()
        y = lerp(at(denoise, y, s), y, (r**2 - up**2).sqrt() / s)
        y = y + up * normal(y, rng) if up > 0 else y
    return y


@torch.inference_mode()
def heun(denoise: Denoiser, y: Tensor, grid: Tensor, *, rng: torch.Generator | None = None) -> Tensor:
    """Second order, deterministic, two evaluations a step but for the last; [B, *D]. `rng` is not drawn from.

    Source: Karras et al. 2022, arXiv:2206.00364, algorithm 1.
    """
    for s, r in pairs(grid):
        slope = (y - at(denoise, y, s)) / s
        ahead = y + (r - s) * slope
        if r > 0:
            slope = (slope + (ahead - at(denoise, ahead, r)) / r) / 2
            ahead = y + (r - s) * slope
        y = ahead
    return y


def guided(cond: Denoiser, null: Denoiser, scale: float) -> Denoiser:
    """Classifier-free guidance is a denoiser made of two; scale 0 is `cond` alone.

    Source: Ho & Salimans 2022, arXiv:2207.12598, eq. 6.
    """
    return lambda y, s: (1 + scale) * cond(y, s) - scale * null(y, s)


def clipped(denoise: Denoiser, low: float = -1.0, high: float = 1.0) -> Denoiser:
    """A denoiser whose estimates stay in the range of the data."""
    return lambda y, s: denoise(y, s).clamp(low, high)


def start(like: Tensor, grid: Tensor, *, rng: torch.Generator | None = None) -> Tensor:
    """y at the level grid[0], of the shape and type of `like`: noise of the variance of noised data of unit variance."""
    return normal(like, rng) * (1 + grid[0].item() ** 2) ** 0.5


def pairs(grid: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Neighbouring levels (s, r), each [] on the CPU, so that comparing them waits for no device."""
    levels = grid.cpu().double()
    return itertools.pairwise(levels)


def at(denoise: Denoiser, y: Tensor, s: Tensor) -> Tensor:
    """The denoiser with one level for all examples."""
    return denoise(y, y.new_full((len(y),), s.item()))


def lerp(x0: Tensor, y: Tensor, share: Tensor) -> Tensor:
    """x0 + share (y - x0)."""
    return torch.lerp(x0, y, share.item())


def normal(like: Tensor, rng: torch.Generator | None) -> Tensor:
    """Standard normal numbers of the shape and type of `like`, drawn where `rng` lives and moved to `like`."""
    device = rng.device if rng is not None else like.device
    return torch.randn(like.shape, generator=rng, dtype=like.dtype, device=device).to(like.device)
