"""Errors of a model's density, against an exact one or by held-out examples."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lightning_modules import draws


def excess_nats(
    log_prob: Callable[[Tensor], Tensor], exact: Callable[[Tensor], Tensor], x: Tensor, *, batch: int = 4096
) -> tuple[float, float]:
    """KL divergence from the truth to a model in nats, estimated by examples x [N, *D] of the truth, and its standard error.

    Args:
        log_prob: log density of the model, [B, *D] -> [B].
        exact: log density of the truth, likewise.
        batch: examples evaluated at once.
    """
    gap = torch.cat([exact(part).cpu() - log_prob(part).double().cpu() for part in x.split(batch)])
    return gap.mean().item(), (gap.std() / len(gap) ** 0.5).item()


def noise_excess(
    denoise: Callable[[Tensor, Tensor], Tensor],
    exact: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    levels: Tensor,
    *,
    rng: torch.Generator | None = None,
) -> tuple[float, float]:
    """By how much the error of the predicted noise exceeds the least possible error, and that least error; averaged over noise levels.

    With n* the exact posterior mean of the noise, E|n - n'|^2 = E|n - n*|^2 + E|n' - n*|^2; the second term is the
    excess and is measured directly. The examples [N, *D] are noised with the levels [T] in rotation.

    Args:
        denoise, exact: the model's and the exact posterior mean of x, (y [N, *D], level [N]) -> [N, *D].

    Returns:
        (excess, floor), per dimension.
    """
    s = levels[torch.arange(len(x), device=levels.device) % len(levels)].to(x)
    scale = s.reshape(-1, *[1] * (x.ndim - 1))
    n = draws.normal(*x.shape, rng=rng, dtype=x.dtype).to(x.device)
    y = x + scale * n
    with torch.inference_mode():
        ours, best = (y - denoise(y, s)) / scale, (y - exact(y, s)) / scale
    return (ours - best).square().mean().item(), (n - best).square().mean().item()


def parzen(x: Tensor, drawn: Tensor, *, width: float) -> float:
    """Mean log density in nats of examples [N, *D] under a mixture of Gaussians of deviation `width` around samples [M, *D].

    Source: Goodfellow et al. 2014, arXiv:1406.2661, section 5.
    """
    x, drawn = x.flatten(1).double(), drawn.flatten(1).double()
    scale = math.log(len(drawn)) + 0.5 * x.shape[1] * math.log(2 * math.pi * width**2)
    logs = [(-torch.cdist(part, drawn).square() / (2 * width**2)).logsumexp(1) for part in x.split(256)]
    return (torch.cat(logs).mean() - scale).item()
