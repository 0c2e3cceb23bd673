"""Smooth images of a Gaussian: all that a diffusion model estimates has a closed form."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from datamodules.base import Batch, Data, Endless, test_set


class GaussImage(Data):
    """Smooth random images [B, 1, size, size], x ~ N(mean, cov), fresh at every step.

    Args:
        batch: global batch.
        size: height and width.
        reach: distance in pixels over which the correlation falls to exp(-1/2).
        std: of each pixel.
        grain: share of the variance that is independent from pixel to pixel.
    """

    def __init__(
        self, *, batch: int = 512, size: int = 8, reach: float = 1.5, std: float = 0.5, grain: float = 0.02
    ) -> None:
        super().__init__(batch=batch)
        self.shape = (1, size, size)
        place = torch.cartesian_prod(torch.arange(size), torch.arange(size)).double()
        smooth = torch.exp(-torch.cdist(place, place).square() / (2 * reach**2))
        self.cov = std**2 * ((1 - grain) * smooth + grain * torch.eye(size**2, dtype=torch.float64))
        """[D, D], float64."""
        self.mean = 0.5 * torch.sin(place[:, 0] / size * math.pi) - 0.25
        """[D], float64."""
        self.eigenvalues, self._axes = torch.linalg.eigh(self.cov)
        self._root = self._axes * self.eigenvalues.sqrt()
        self.source = Endless(self.draw)

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        """n examples."""
        z = torch.randn(n, len(self.mean), generator=rng, dtype=torch.float64)
        return {"x": (self.mean + z @ self._root.T).float().reshape(n, *self.shape)}

    def test(self, n: int | None = None) -> Batch:
        return test_set(self.draw, n or 4096)

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log density [B] of x [B, *shape] in nats, float64."""
        z = (x.flatten(1).double().cpu() - self.mean) @ self._axes
        nats = -0.5 * (z.square() / self.eigenvalues + self.eigenvalues.log() + math.log(2 * math.pi))
        return nats.sum(1)

    def entropy(self) -> float:
        """Differential entropy in nats."""
        return 0.5 * (self.eigenvalues.log() + math.log(2 * math.pi * math.e)).sum().item()

    def denoise(self, y: Tensor, s: Tensor) -> Tensor:
        """The exact posterior mean of x given y = x + s n: y [B, *shape], s [B] -> [B, *shape]."""
        axes, mean, values = (a.to(y) for a in (self._axes, self.mean, self.eigenvalues))
        z = (y.flatten(1) - mean) @ axes
        return (mean + (z * values / (values + s[:, None] ** 2)) @ axes.T).reshape(y.shape)

    def score(self, y: Tensor, s: Tensor) -> Tensor:
        """The exact gradient of the log density of y = x + s n; [B, *shape]. Tweedie's formula."""
        return (self.denoise(y, s) - y) / s.reshape(-1, 1, 1, 1) ** 2

    def best_variance(self, s: Tensor, r: Tensor) -> Tensor:
        """The variance [D] of each pixel with which a step from level s to r < s, levels [] in float64, loses least of the bound.

        The posterior's, and what the error of the best estimate of x adds in a pixel:
        (1 - r^2 / s^2)^2 sum_k U_ik^2 v_k s^2 / (v_k + s^2).
        """
        error = self._axes.square() @ (self.eigenvalues * s**2 / (self.eigenvalues + s**2))
        return r**2 * (s**2 - r**2) / s**2 + (1 - r**2 / s**2) ** 2 * error

    def gain_of_variance(self, levels: Tensor) -> float:
        """Nats that the steps of a table [T] gain by their best variances over the forward variance, with the exact denoiser.

        The first step, which the decoder ends, is left out.
        """
        total = 0.0
        for r, s in itertools.pairwise(levels.cpu().double()):
            true, best = r**2 * (s**2 - r**2) / s**2, self.best_variance(s, r)
            forward = (s**2 - r**2) * (1 + r**2) / (1 + s**2)
            error = best - true
            terms = [(v / true).log() + (true + error) / v for v in (forward.expand_as(best), best)]
            total += 0.5 * (terms[0] - terms[1]).sum().item()
        return total

    def best_bound(self, levels: Tensor, variance: Callable[[Tensor, Tensor], Tensor] | None = None) -> float:
        """The largest mean variational bound in nats that any denoiser reaches.

        Ho et al. 2020, eq. 5, with a Gaussian decoder of the first forward variance: in each eigendirection of the
        data, of variance v, the least error at level s is v s^2 / (v + s^2).

        Args:
            levels: table [T], ascending, float64.
            variance: (s, r) -> variance of the model's step from s to r; None: the posterior's.
        """
        v, levels = self.eigenvalues[:, None], levels.cpu().double()
        least = v * levels**2 / (v + levels**2)
        s, r = levels[1:], levels[:-1]
        true = r**2 * (s**2 - r**2) / s**2
        ours = true if variance is None else variance(s, r)
        gap = 0.5 * ((ours / true).log() + true / ours - 1)
        steps = gap + least[:, 1:] * (1 - r**2 / s**2) ** 2 / (2 * ours)
        keep = 1 / (1 + levels[-1] ** 2)
        second = keep * (v[:, 0] + (self.mean @ self._axes) ** 2)
        prior = 0.5 * (second + (1 - keep) - 1 - (1 - keep).log())
        noise = levels[0] ** 2 / (1 + levels[0] ** 2)
        decoder = 0.5 * (least[:, 0] / noise + (2 * math.pi * noise).log())
        return -(steps.sum() + prior.sum() + decoder.sum()).item()
