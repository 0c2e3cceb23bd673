"""Sampling from a consistency model in one step or several.

Source: Song et al. 2023, arXiv:2303.01469, algorithm 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.diffusion.preconditioning import Denoiser
from lightning_modules.diffusion.samplers.chain import at, normal, pairs


@torch.inference_mode()
def multistep(
    denoise: Denoiser, y: Tensor, grid: Tensor, *, sigma_min: float = 0.002, rng: torch.Generator | None = None
) -> Tensor:
    """One evaluation of the consistency function at each level of the grid but the last; [B, *D].

    Args:
        denoise: the consistency function f(y, sigma), the identity at `sigma_min`.
        sigma_min: the level of what f returns.
    """
    for sigma, sigma_next in pairs(grid):
        y = at(denoise, y, sigma)
        if sigma_next > 0:
            y = y + (sigma_next**2 - sigma_min**2).clamp(min=0).sqrt().item() * normal(y, rng)
    return y
