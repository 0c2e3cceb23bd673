"""Ancestral sampling: draws of the learned reverse process.

Source: Ho et al. 2020, arXiv:2006.11239, algorithm 2; with fewer steps than levels, Nichol & Dhariwal 2021, arXiv:2102.09672, section 4.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.diffusion.preconditioning import Denoiser
from lightning_modules.diffusion.samplers.chain import Sampler, normal, pairs
from lightning_modules.diffusion.steps import Step, Variance, reverse


@torch.inference_mode()
def ancestral(step: Step, y: Tensor, grid: Tensor, *, rng: torch.Generator | None = None) -> Tensor:
    """Draws of the learned reverse process, [B, *D]; no noise is added in the last step."""
    for sigma, sigma_next in pairs(grid):
        mean, variance = step(y, sigma, sigma_next)
        y = mean + variance.sqrt().to(y) * normal(y, rng) if sigma_next > 0 else mean
    return y


def fixed_variance(variance: Variance) -> Sampler:
    """Ancestral sampling whose steps have this variance: `schedules.posterior` or `schedules.forward`."""

    def sample(denoise: Denoiser, y: Tensor, grid: Tensor, *, rng: torch.Generator | None = None) -> Tensor:
        return ancestral(reverse(denoise, variance), y, grid, rng=rng)

    return sample
