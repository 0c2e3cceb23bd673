"""Guidance: functions that make one denoiser of others, outside the network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_modules.conditions import Cond
from lightning_modules.diffusion.preconditioning import Denoiser, append_dims
from lightning_modules.diffusion.steps import Gaussian, Step

LogProb = Callable[[Tensor, Tensor], Tensor]
"""(y [B, *D], sigma [B]) -> log p(c | y) [B] of the class that each example shall have."""
LogLabel = Callable[[Tensor, Tensor, Cond], Tensor]
"""(y [B, *D], sigma [B], conditions) -> log p(c | y) [B] of the conditions, by a noisy classifier."""
Guide = Callable[[Denoiser, Denoiser, float], Denoiser]
"""(denoiser with conditions, denoiser with the null condition, strength) -> guided denoiser."""


def guided(cond: Denoiser, null: Denoiser, w: float) -> Denoiser:
    """Classifier-free guidance, (1 + w) D_cond - w D_null; w = 0 is `cond` alone.

    Source: Ho & Salimans 2022, arXiv:2207.12598, eq. 6.
    """
    return lambda y, sigma: (1 + w) * cond(y, sigma) - w * null(y, sigma)


def in_interval(low: float, high: float, guide: Guide = guided) -> Guide:
    """Guidance only at levels low < sigma <= high; outside it the denoiser with conditions alone is evaluated.

    Source: Kynkaanniemi et al. 2024, arXiv:2404.07724, eq. 4.
    """

    def within(cond: Denoiser, null: Denoiser, w: float) -> Denoiser:
        both = guide(cond, null, w)

        def denoise(y: Tensor, sigma: Tensor) -> Tensor:
            inside = (low < sigma) & (sigma <= high)
            if not inside.any():
                return cond(y, sigma)
            return torch.where(append_dims(inside, y), both(y, sigma), cond(y, sigma))

        return denoise

    return within


def rescaled(share: float = 0.7) -> Guide:
    """Guidance whose estimate of the noise keeps the standard deviation of the one with conditions, for a share of it.

    Source: Lin et al. 2024, arXiv:2305.08891, eq. 15 and 16.
    """

    def rescale(cond: Denoiser, null: Denoiser, w: float) -> Denoiser:
        def denoise(y: Tensor, sigma: Tensor) -> Tensor:
            one, other = cond(y, sigma), null(y, sigma)
            n = y - (1 + w) * one + w * other  # the estimate of the noise, times sigma
            ratio = (y - one).flatten(1).std(1) / n.flatten(1).std(1)
            return y - n * append_dims(share * ratio + (1 - share), y)

        return denoise

    return rescale


def classifier_guided(denoise: Denoiser, log_prob: LogProb, scale: float = 1.0) -> Denoiser:
    """D + scale sigma^2 gradient of log p(c | y): the conditional denoiser of an unconditional one, where scale = 1.

    Source: Dhariwal & Nichol 2021, arXiv:2105.05233, algorithm 2, as the shift of the score.
    """
    return lambda y, sigma: denoise(y, sigma) + scale * append_dims(sigma, y) ** 2 * gradient(log_prob, y, sigma)


def classifier_shifted(step: Step, log_prob: LogProb, scale: float = 1.0) -> Step:
    """A reverse step from sigma to sigma_next whose mean moves by scale times its variance times the gradient of log p(c | x_t).

    In units of y the variance counts sqrt((1 + sigma^2) / (1 + sigma_next^2)) times, because x_t = y / sqrt(1 + sigma^2). As steps
    shrink, it is the same as `classifier_guided`.

    Source: Dhariwal & Nichol 2021, arXiv:2105.05233, algorithm 1.
    """

    def shifted(y: Tensor, sigma: Tensor, sigma_next: Tensor) -> Gaussian:
        mean, variance = step(y, sigma, sigma_next)
        unit = append_dims(((1 + sigma**2) / (1 + sigma_next**2)).sqrt(), y).to(variance)
        shift = gradient(log_prob, y, sigma.to(y).expand(len(y)))
        return Gaussian(mean + scale * (unit * variance).to(y) * shift, variance)

    return shifted


def given(classifier: LogLabel, cond: Cond) -> LogProb:
    """The classifier's log p(c | y) of these conditions."""
    return lambda y, sigma: classifier(y, sigma, cond)


def gradient(log_prob: LogProb, y: Tensor, sigma: Tensor) -> Tensor:
    """The gradient [B, *D] of log p(c | y) at y; in inference mode, too."""
    with torch.inference_mode(False), torch.enable_grad():
        at = y.clone().requires_grad_()
        (found,) = torch.autograd.grad(log_prob(at, sigma.clone()).sum(), at)
    return found


def clipped(denoise: Denoiser, low: float = -1.0, high: float = 1.0) -> Denoiser:
    """A denoiser whose estimates stay in the range of the data."""
    return lambda y, sigma: denoise(y, sigma).clamp(low, high)


def thresholded(denoise: Denoiser, percentile: float = 99.5) -> Denoiser:
    """A denoiser whose estimates are divided by a percentile of their absolute values where that is above 1, and are in [-1, 1].

    Dynamic thresholding: of each example, a is that percentile, at least 1; estimates are clipped to [-a, a] and divided by a. Static
    thresholding, to which it is equal where a = 1, is `clipped`.

    Source: Saharia et al. 2022, arXiv:2205.11487, section 2.3.

    Args:
        percentile: p in [0, 100].

    Raises:
        ValueError: it is not.
    """
    if not 0 <= percentile <= 100:
        raise ValueError(f"The percentile of dynamic thresholding must be in [0, 100], not {percentile:g}.")

    def threshold(y: Tensor, sigma: Tensor) -> Tensor:
        x0 = denoise(y, sigma)
        a = append_dims(quantile(x0.abs().flatten(1), percentile / 100).clamp(min=1), x0)
        return x0.clamp(-a, a) / a

    return threshold


def quantile(x: Tensor, share: float) -> Tensor:
    """The quantile [B] of rows x [B, N], linear between neighbours; of rows of any length, which `torch.quantile` does not take."""
    place = share * (x.shape[1] - 1)
    low = int(place)
    ordered = x.sort(1).values
    return torch.lerp(ordered[:, low], ordered[:, min(low + 1, x.shape[1] - 1)], place - low)
