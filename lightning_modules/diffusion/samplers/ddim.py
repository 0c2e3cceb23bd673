"""Denoising diffusion implicit models: sampling, its inverse, and interpolation between two drawings.

Source: Song, Meng & Ermon 2021, arXiv:2010.02502, eq. 12 and 16, sections 4.3 and 5.3.
Differs: the paper's sigma-hat, a larger variance, is `ancestral.fixed_variance(schedules.forward)`.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from lightning_modules.diffusion import schedules
from lightning_modules.diffusion.preconditioning import Denoiser
from lightning_modules.diffusion.samplers.chain import at, lerp, normal, pairs


@torch.inference_mode()
def ddim(denoise: Denoiser, y: Tensor, grid: Tensor, *, eta: float = 0.0, rng: torch.Generator | None = None) -> Tensor:
    """Deterministic for eta = 0 (Euler's method), ancestral with the posterior variance for eta = 1; [B, *D]. Eq. 12 and 16."""
    for sigma, sigma_next in pairs(grid):
        up = eta * schedules.posterior(sigma, sigma_next).sqrt()
        y = lerp(at(denoise, y, sigma), y, (sigma_next**2 - up**2).sqrt() / sigma)
        y = y + up * normal(y, rng) if up > 0 else y
    return y


@torch.inference_mode()
def encode(denoise: Denoiser, x: Tensor, grid: Tensor) -> Tensor:
    """The inverse of `ddim` with eta = 0: examples [B, *D] -> y at the level grid[0]. Section 4.3.

    Each step upwards takes the estimate of the noise at the level where it starts, so the inverse is exact in the limit of small
    steps. The first step, which starts at level 0, takes the estimate at the lowest level above it.
    """
    up = grid.cpu().double().flip(0)
    y = x
    for sigma, sigma_next in itertools.pairwise(up):
        level = torch.maximum(sigma, up[1])
        n = (y - at(denoise, y, level)) / level.item()
        y = y + (sigma_next - sigma).item() * n
    return y


def interpolate(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Points between two drawings of noise on their great circle, which keeps their length; section 5.3, eq. 67 of the appendix.

    Args:
        a, b: noise [B, *D].
        share: of the way from a to b, [B].
    """
    u, v, s = a.flatten(1), b.flatten(1), share[:, None]
    angle = torch.cosine_similarity(u, v)[:, None].clamp(-1, 1).acos()
    return ((((1 - s) * angle).sin() * u + (s * angle).sin() * v) / angle.sin()).reshape(a.shape)
