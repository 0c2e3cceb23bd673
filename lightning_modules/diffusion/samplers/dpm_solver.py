"""DPM-Solver++ of second order with two steps: one evaluation a step, for guided sampling in 10 to 20 steps.

Source: Lu et al. 2022, arXiv:2211.01095, algorithm 2 and appendix A.2.
Differs: in units of y, where the logarithm of alpha / sigma is -log sigma.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.diffusion.preconditioning import Denoiser
from lightning_modules.diffusion.samplers.chain import at, lerp, normal, pairs


@torch.inference_mode()
def dpm_solver(
    denoise: Denoiser, y: Tensor, grid: Tensor, *, stochastic: bool = False, rng: torch.Generator | None = None
) -> Tensor:
    """Examples [B, *D]; the first and the last step are of first order.

    Args:
        stochastic: SDE-DPM-Solver++ in place of the deterministic one, which does not use `rng`.
    """
    x0, step = y, None
    for sigma, sigma_next in pairs(grid):
        before, x0, step_before = x0, at(denoise, y, sigma), step
        step = (sigma / sigma_next).log()
        ahead = x0
        if step_before is not None and sigma_next > 0:
            ahead = x0 + (step / (2 * step_before)).item() * (x0 - before)
        keep = sigma_next / sigma
        y = lerp(ahead, y, keep**2 if stochastic else keep)
        if stochastic and sigma_next > 0:
            y = y + (sigma_next * (1 - keep**2).sqrt()).item() * normal(y, rng)
    return y
