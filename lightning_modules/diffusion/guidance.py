"""Guidance: functions that make one denoiser of others, outside the network."""

from __future__ import annotations

from collections.abc import Callable

from lightning_modules.diffusion.preconditioning import Denoiser

Guide = Callable[[Denoiser, Denoiser, float], Denoiser]
"""(denoiser with conditions, denoiser with the null condition, strength) -> guided denoiser."""


def guided(cond: Denoiser, null: Denoiser, w: float) -> Denoiser:
    """Classifier-free guidance, (1 + w) D_cond - w D_null; w = 0 is `cond` alone.

    Source: Ho & Salimans 2022, arXiv:2207.12598, eq. 6.
    """
    return lambda y, sigma: (1 + w) * cond(y, sigma) - w * null(y, sigma)


def clipped(denoise: Denoiser, low: float = -1.0, high: float = 1.0) -> Denoiser:
    """A denoiser whose estimates stay in the range of the data."""
    return lambda y, sigma: denoise(y, sigma).clamp(low, high)
