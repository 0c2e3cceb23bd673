"""EDM's samplers: Heun's method, deterministic or with churn.

Source: Karras et al. 2022, arXiv:2206.00364, algorithms 1 and 2, table 5.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_modules.diffusion.preconditioning import Denoiser
from lightning_modules.diffusion.samplers.chain import at, normal, pairs


@torch.inference_mode()
def heun(
    denoise: Denoiser,
    y: Tensor,
    grid: Tensor,
    *,
    churn: float = 0.0,
    churn_min: float = 0.0,
    churn_max: float = math.inf,
    churn_std: float = 1.0,
    rng: torch.Generator | None = None,
) -> Tensor:
    """Second order, two evaluations a step but for the last; [B, *D]. Without churn it is deterministic and `rng` is not used.

    Args:
        churn: S_churn: noise that is added before each of the N steps raises its level by S_churn / N, at most by sqrt(2) - 1.
        churn_min, churn_max: S_min and S_max, the levels between which noise is added.
        churn_std: S_noise, its standard deviation.
    """
    most = min(churn / (len(grid) - 1), math.sqrt(2) - 1)
    for sigma, sigma_next in pairs(grid):
        if most > 0 and churn_min <= sigma <= churn_max:
            raised = sigma * (1 + most)
            y = y + ((raised**2 - sigma**2).sqrt() * churn_std).item() * normal(y, rng)
            sigma = raised
        slope = (y - at(denoise, y, sigma)) / sigma
        ahead = y + (sigma_next - sigma) * slope
        if sigma_next > 0:
            slope = (slope + (ahead - at(denoise, ahead, sigma_next)) / sigma_next) / 2
            ahead = y + (sigma_next - sigma) * slope
        y = ahead
    return y
