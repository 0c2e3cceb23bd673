"""From noise to data: each takes a denoiser, y [B, *D] at the level grid[0], and a descending grid [N + 1] that ends in 0."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from lightning_modules.diffusion import schedules
from lightning_modules.diffusion.preconditioning import Denoiser
from lightning_modules.diffusion.steps import Step, Variance, reverse


class Sampler(Protocol):
    """A way from noise to data with a denoiser: y [B, *D] at the level grid[0] -> examples [B, *D]."""

    def __call__(self, denoise: Denoiser, y: Tensor, grid: Tensor, *, rng: torch.Generator | None = None) -> Tensor: ...


@torch.inference_mode()
def ancestral(step: Step, y: Tensor, grid: Tensor, *, rng: torch.Generator | None = None) -> Tensor:
    """Draws of the learned reverse process, [B, *D]; no noise is added in the last step.

    Source: Ho et al. 2020, arXiv:2006.11239, algorithm 2.
    """
    for sigma, sigma_next in pairs(grid):
        mean, variance = step(y, sigma, sigma_next)
        y = mean + variance.sqrt().to(y) * normal(y, rng) if sigma_next > 0 else mean
    return y


def fixed_variance(variance: Variance) -> Sampler:
    """Ancestral sampling whose steps have this variance: `schedules.posterior` or `schedules.forward`."""

    def sample(denoise: Denoiser, y: Tensor, grid: Tensor, *, rng: torch.Generator | None = None) -> Tensor:
        return ancestral(reverse(denoise, variance), y, grid, rng=rng)

    return sample


@torch.inference_mode()
def ddim(denoise: Denoiser, y: Tensor, grid: Tensor, *, eta: float = 0.0, rng: torch.Generator | None = None) -> Tensor:
    """Deterministic for eta = 0 (Euler's method), ancestral with the posterior variance for eta = 1; [B, *D].

    Source: Song, Meng & Ermon 2021, arXiv:2010.02502, eq. 12 and 16.
    """
    for sigma, sigma_next in pairs(grid):
        up = eta * schedules.posterior(sigma, sigma_next).sqrt()
        y = lerp(at(denoise, y, sigma), y, (sigma_next**2 - up**2).sqrt() / sigma)
        y = y + up * normal(y, rng) if up > 0 else y
    return y


@torch.inference_mode()
def heun(denoise: Denoiser, y: Tensor, grid: Tensor, *, rng: torch.Generator | None = None) -> Tensor:
    """Second order, deterministic, two evaluations a step but for the last; [B, *D]. `rng` is not used.

    Source: Karras et al. 2022, arXiv:2206.00364, algorithm 1.
    """
    for sigma, sigma_next in pairs(grid):
        slope = (y - at(denoise, y, sigma)) / sigma
        ahead = y + (sigma_next - sigma) * slope
        if sigma_next > 0:
            slope = (slope + (ahead - at(denoise, ahead, sigma_next)) / sigma_next) / 2
            ahead = y + (sigma_next - sigma) * slope
        y = ahead
    return y


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


def at(denoise: Denoiser, y: Tensor, sigma: Tensor) -> Tensor:
    """The denoiser with one level for all examples."""
    return denoise(y, y.new_full((len(y),), sigma.item()))


def lerp(x0: Tensor, y: Tensor, share: Tensor) -> Tensor:
    """x0 + share (y - x0)."""
    return torch.lerp(x0, y, share.item())


def normal(like: Tensor, rng: torch.Generator | None) -> Tensor:
    """Standard normal noise of the shape and type of `like`, drawn where `rng` lives and moved to `like`."""
    device = rng.device if rng is not None else like.device
    return torch.randn(like.shape, generator=rng, dtype=like.dtype, device=device).to(like.device)
