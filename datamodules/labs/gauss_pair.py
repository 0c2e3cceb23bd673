"""Smooth images of a Gaussian with their low-resolution twins: all that a cascade of diffusion models estimates has a closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from datamodules.base import Batch
from datamodules.labs.gauss_image import GaussImage


class GaussPair(GaussImage):
    """Images 'x' [B, 1, size, size] of `GaussImage`, x ~ N(m, S), and their twins 'low' [B, 1, size / 2, size / 2], z = A x.

    A twin's pixels are the means of 2 x 2 pixels, so z ~ N(A m, A S A'). A super-resolution model is given z_s = z + s n.

    Args:
        batch: global batch.
        size: height and width of x, even.
        reach, std, grain: see `GaussImage`.

    Raises:
        ValueError: the size is odd.
    """

    def __init__(
        self, *, batch: int = 512, size: int = 8, reach: float = 1.5, std: float = 0.5, grain: float = 0.02
    ) -> None:
        if size % 2:
            raise ValueError(f"size is {size}: means of 2 x 2 pixels need an even one.")
        super().__init__(batch=batch, size=size, reach=reach, std=std, grain=grain)
        self.low_shape = (1, size // 2, size // 2)
        """Of a twin."""
        self.means = mean_matrix(size)
        """A [D / 4, D], float64."""
        self.low_mean, self.low_cov = self.means @ self.mean, self.means @ self.cov @ self.means.T
        """Moments of z: A m and A S A', float64."""

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        """n pairs."""
        found = super().draw(n, rng)
        low = (found["x"].flatten(1).double() @ self.means.T).float()
        return found | {"low": low.reshape(n, *self.low_shape)}

    def gain(self, s: float) -> tuple[Tensor, Tensor]:
        """K = S A' (A S A' + s^2 I)^-1 [D, D / 4], and the covariance S - K A S [D, D] of x given z_s."""
        cross = self.cov @ self.means.T
        noise = s**2 * torch.eye(len(self.low_mean), dtype=torch.float64)
        k = torch.linalg.solve(self.low_cov + noise, cross.T).T
        return k, self.cov - k @ cross.T

    def given(self, low: Tensor, s: float) -> tuple[Tensor, Tensor]:
        """The posterior of x given twins z_s = z + s n [B, *low_shape]: means m + K(z_s - A m) [B, D], covariance [D, D]; float64."""
        k, cov = self.gain(s)
        return self.mean + (low.flatten(1).double().cpu() - self.low_mean) @ k.T, cov

    def denoise_given(self, y: Tensor, sigma: Tensor, low: Tensor, s: float) -> Tensor:
        """The exact posterior mean of x given y = x + sigma n and z_s.

        Args:
            y: [B, *shape].
            sigma: [B].
            low: z_s [B, *low_shape].
            s: the level of its noise.
        """
        mean, cov = self.given(low, s)
        values, axes = torch.linalg.eigh(cov)
        values = values.clamp(min=0)
        z = (y.flatten(1).double().cpu() - mean) @ axes
        level = sigma.double().cpu()[:, None]
        return (mean + (z * values / (values + level**2)) @ axes.T).to(y).reshape(y.shape)

    def denoise_low(self, y: Tensor, sigma: Tensor) -> Tensor:
        """The exact posterior mean of z given y = z + sigma n: y [B, *low_shape], sigma [B]."""
        values, axes = torch.linalg.eigh(self.low_cov)
        values, axes, mean = (a.to(y) for a in (values, axes, self.low_mean))
        z = (y.flatten(1) - mean) @ axes
        return (mean + (z * values / (values + sigma[:, None] ** 2)) @ axes.T).reshape(y.shape)

    def of_cascade(self, s: float, base_cov: Tensor | None = None, *, noised: bool = True) -> tuple[Tensor, Tensor]:
        """The moments [D], [D, D] of a cascade's samples, where the super-resolution is exact and the base draws N(A m, base_cov).

        Args:
            s: the level of the noise that the super-resolution model is given.
            base_cov: [D / 4, D / 4], None: that of z, an exact base.
            noised: whether the base's samples get that noise; without, noise is in training alone, which is a mistake.
        """
        k, cov = self.gain(s)
        base = self.low_cov if base_cov is None else base_cov
        noise = s**2 * torch.eye(len(base), dtype=torch.float64) if noised else 0.0
        return self.mean, cov + k @ (base + noise) @ k.T


def mean_matrix(size: int) -> Tensor:
    """The matrix [size^2 / 4, size^2] of the means of 2 x 2 pixels, float64."""
    half = torch.eye(size // 2, dtype=torch.float64).repeat_interleave(2, 1) / 2
    return torch.kron(half, half)
