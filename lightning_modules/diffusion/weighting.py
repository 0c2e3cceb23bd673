"""The denoiser made of a network, and the one loss that trains it whatever it predicts."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from lightning_modules.diffusion.preconditioning import Prediction

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(y [B, *D], s [B]) -> estimate of x0 [B, *D]."""


def spread(a: Tensor, like: Tensor) -> Tensor:
    """[B] -> [B, 1, ..., 1], of the rank of `like`."""
    return a.reshape(-1, *[1] * (like.ndim - 1))


def denoiser(net: Callable[[Tensor, Tensor], Tensor], predict: Prediction) -> Denoiser:
    """The denoiser of a raw network (inp y [B, *D], s [B]) -> [B, *D]."""

    def denoise(y: Tensor, s: Tensor) -> Tensor:
        skip, out, inp = (spread(a, y) for a in predict(s))
        return skip * y + out * net(inp * y, s)

    return denoise


def denoising_loss(denoise: Denoiser, x0: Tensor, s: Tensor, n: Tensor, weight: Tensor) -> Tensor:
    """Weighted squared error [B], averaged over dimensions, of denoising x0 [B, *D] + s [B] n [B, *D]."""
    error = denoise(x0 + spread(s, x0) * n, s) - x0
    return weight * error.square().flatten(1).mean(1)


def simple(s: Tensor) -> Tensor:
    """The weight of the denoising error that makes it the error of the noise.

    Source: Ho et al. 2020, arXiv:2006.11239, eq. 14.
    """
    return s**-2


def min_snr(s: Tensor, gamma: float = 5.0) -> Tensor:
    """The signal-to-noise ratio, at most gamma.

    Source: Hang et al. 2023, arXiv:2303.09556, section 3.4.
    """
    return (s**-2).clamp(max=gamma)


def truncated_snr(s: Tensor) -> Tensor:
    """The signal-to-noise ratio, at least 1.

    Source: Salimans & Ho 2022, arXiv:2202.00512, section 4.
    """
    return (s**-2).clamp(min=1)


def edm(s: Tensor, data_std: float = 0.5) -> Tensor:
    """The weight that gives every level the same loss at initialisation.

    Source: Karras et al. 2022, arXiv:2206.00364, table 1.
    """
    return (s**2 + data_std**2) / (s * data_std) ** 2
