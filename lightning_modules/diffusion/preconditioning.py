"""What the network predicts: each choice is one case of D(y; sigma) = c_skip y + c_out F(c_in y, level).

F is the raw network and D the denoiser, an estimate of x0 from y = x0 + sigma n (Karras et al. 2022, arXiv:2206.00364, eq. 7).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(y [B, *D], sigma [B]) -> estimate of x0 [B, *D]."""


class Scaling(NamedTuple):
    """Multipliers at the levels sigma [B]; each [B]."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor


Preconditioning = Callable[[Tensor], Scaling]
"""Levels sigma [B] -> the multipliers of the network's input and output and of the skip connection."""


def append_dims(a: Tensor, like: Tensor) -> Tensor:
    """[B] or [] -> [B, 1, ..., 1], of the rank of `like`."""
    return a.reshape(-1, *[1] * (like.ndim - 1))


def denoiser(net: Callable[[Tensor, Tensor], Tensor], precondition: Preconditioning) -> Denoiser:
    """The denoiser of a raw network (c_in y [B, *D], sigma [B]) -> [B, *D]."""

    def denoise(y: Tensor, sigma: Tensor) -> Tensor:
        c_skip, c_out, c_in = (append_dims(c, y) for c in precondition(sigma))
        return c_skip * y + c_out * net(c_in * y, sigma)

    return denoise


def noise(sigma: Tensor) -> Scaling:
    """F predicts n.

    Source: Ho et al. 2020, arXiv:2006.11239, eq. 11 to 14.
    """
    return Scaling(torch.ones_like(sigma), -sigma, (sigma**2 + 1).rsqrt())


def clean(sigma: Tensor) -> Scaling:
    """F predicts x0."""
    return Scaling(torch.zeros_like(sigma), torch.ones_like(sigma), (sigma**2 + 1).rsqrt())


def velocity(sigma: Tensor) -> Scaling:
    """F predicts v = alpha n - sqrt(1 - alpha^2) x0, where alpha = 1 / sqrt(1 + sigma^2).

    Source: Salimans & Ho 2022, arXiv:2202.00512, appendix D.
    """
    alpha = (sigma**2 + 1).rsqrt()
    return Scaling(alpha**2, -sigma * alpha, alpha)


def score(sigma: Tensor) -> Scaling:
    """F predicts sigma times the score of the noised data, which is -n on average; its input is not scaled.

    Source: Song & Ermon 2019, arXiv:1907.05600, section 4.2.
    """
    return Scaling(torch.ones_like(sigma), sigma, torch.ones_like(sigma))


def flow(sigma: Tensor) -> Scaling:
    """F predicts the velocity n - x0 of the straight path x_t = (1 - t) x0 + t n, where sigma = t / (1 - t) and x_t = (1 - t) y.

    Source: Lipman et al. 2023, arXiv:2210.02747, section 4.1; Liu et al. 2023, arXiv:2209.03003, eq. 1.
    Differs: time runs from the data (0) to the noise (1).
    """
    c = 1 / (1 + sigma)
    return Scaling(c, -sigma * c, c)


def edm(sigma: Tensor, data_std: float = 0.5) -> Scaling:
    """Inputs and targets of unit variance.

    Source: Karras et al. 2022, table 1.
    """
    c_in = (sigma**2 + data_std**2).rsqrt()
    return Scaling((data_std * c_in) ** 2, sigma * data_std * c_in, c_in)


def consistency(sigma: Tensor, data_std: float = 0.5, sigma_min: float = 0.002) -> Scaling:
    """A consistency function: the identity at sigma_min.

    Source: Song et al. 2023, arXiv:2303.01469, appendix C.
    """
    above, c_in = sigma - sigma_min, (sigma**2 + data_std**2).rsqrt()
    return Scaling(data_std**2 / (above**2 + data_std**2), data_std * above * c_in, c_in)


def quarter_log(sigma: Tensor) -> Tensor:
    """A level input [B] of networks: log(sigma) / 4, EDM's c_noise.

    Source: Karras et al. 2022, table 1.
    """
    return sigma.log() / 4
