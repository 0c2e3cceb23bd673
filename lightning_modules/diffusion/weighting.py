"""Weights [B] of the error of x0 at the levels sigma [B]: how much each noise level counts in the loss."""

from __future__ import annotations

from torch import Tensor


def simple(sigma: Tensor) -> Tensor:
    """The weight that turns the error of x0 into the error of the noise.

    Source: Ho et al. 2020, arXiv:2006.11239, eq. 14.
    """
    return sigma**-2


def min_snr(sigma: Tensor, gamma: float = 5.0) -> Tensor:
    """The signal-to-noise ratio, at most gamma; the same formula whatever the network predicts.

    Source: Hang et al. 2023, arXiv:2303.09556, section 3.4.
    """
    return (sigma**-2).clamp(max=gamma)


def truncated_snr(sigma: Tensor) -> Tensor:
    """The signal-to-noise ratio, at least 1.

    Source: Salimans & Ho 2022, arXiv:2202.00512, section 4.
    """
    return (sigma**-2).clamp(min=1)


def flow(sigma: Tensor) -> Tensor:
    """The weight that turns the error of x0 into the error of the velocity n - x0 of flow matching (`preconditioning.flow`)."""
    return ((1 + sigma) / sigma) ** 2


def edm(sigma: Tensor, data_std: float = 0.5) -> Tensor:
    """The weight that gives every level the same loss at initialisation.

    Source: Karras et al. 2022, arXiv:2206.00364, table 1.
    """
    return (sigma**2 + data_std**2) / (sigma * data_std) ** 2
