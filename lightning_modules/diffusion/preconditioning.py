"""What the network predicts: each choice is one case of D(y; s) = skip y + out F(inp y, s).

F is the raw network and D the denoiser, an estimate of x0 from y = x0 + s n (Karras et al. 2022, arXiv:2206.00364, eq. 7).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Scaling(NamedTuple):
    """Multipliers at the levels s [B]; each [B]."""

    skip: Tensor
    out: Tensor
    inp: Tensor


Prediction = Callable[[Tensor], Scaling]


def noise(s: Tensor) -> Scaling:
    """F predicts n.

    Source: Ho et al. 2020, arXiv:2006.11239, eq. 11 to 14.
    """
    return Scaling(torch.ones_like(s), -s, (s**2 + 1).rsqrt())


def clean(s: Tensor) -> Scaling:
    """F predicts x0."""
    return Scaling(torch.zeros_like(s), torch.ones_like(s), (s**2 + 1).rsqrt())


def velocity(s: Tensor) -> Scaling:
    """F predicts v = alpha n - sigma x0.

    Source: Salimans & Ho 2022, arXiv:2202.00512, appendix D.
    """
    r = (s**2 + 1).rsqrt()
    return Scaling(r**2, -s * r, r)


def score(s: Tensor) -> Scaling:
    """F predicts s times the score of the noised data, which is -n on average; its input is not scaled.

    Source: Song & Ermon 2019, arXiv:1907.05600, section 4.2.
    """
    return Scaling(torch.ones_like(s), s, torch.ones_like(s))


def edm(s: Tensor, data_std: float = 0.5) -> Scaling:
    """Inputs and targets of unit variance.

    Source: Karras et al. 2022, table 1.
    """
    r = (s**2 + data_std**2).rsqrt()
    return Scaling((data_std * r) ** 2, s * data_std * r, r)


def boundary(s: Tensor, data_std: float = 0.5, s_min: float = 0.002) -> Scaling:
    """A consistency function: the identity at s_min.

    Source: Song et al. 2023, arXiv:2303.01469, appendix C.
    """
    d, r = s - s_min, (s**2 + data_std**2).rsqrt()
    return Scaling(data_std**2 / (d**2 + data_std**2), data_std * d * r, r)
