"""Distributions of an example given the decoder's outputs; each element of the example is independent.

Source: Kingma & Welling 2014, arXiv:1312.6114, appendix C; the logistic: Kingma et al. 2016, arXiv:1606.04934, appendix C.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules import draws
from lightning_modules.objectives import discretised_logistic_log_prob, gaussian_log_prob


def normal_like(x: Tensor, rng: torch.Generator | None) -> Tensor:
    """Standard normal numbers of the shape, type and device of `x`, drawn in float64 on the device of `rng`."""
    return draws.normal(*x.shape, rng=rng, dtype=torch.float64).to(x)


def uniform_like(x: Tensor, rng: torch.Generator | None) -> Tensor:
    """Uniform numbers in (0, 1) of the shape, type and device of `x`, drawn in float64 on the device of `rng`."""
    return draws.uniform(*x.shape, rng=rng, dtype=torch.float64).clamp(1e-12, 1 - 1e-12).to(x)


class Likelihood(nn.Module):
    """A distribution of x [B, C, *] given a decoder's outputs `out` [B, outputs * C, *]."""

    outputs = 1
    """Outputs of the decoder for each element of an example, in blocks along dimension 1."""
    levels = 0
    """Of grey, from -1 to 1, that an element can have; 0: an element is any real number."""

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        """Log probability or density of each example, [B] nats."""
        raise NotImplementedError(f"{type(self).__name__} has no log_prob")

    def mean(self, out: Tensor) -> Tensor:
        """The mean [B, C, *]; of a discretised distribution, that before it is cut into levels."""
        raise NotImplementedError(f"{type(self).__name__} has no mean")

    def draw(self, out: Tensor, rng: torch.Generator | None) -> Tensor:
        """One example for each row of outputs, [B, C, *]."""
        raise NotImplementedError(f"{type(self).__name__} does not draw")


class Bernoulli(Likelihood):
    """Pixels that are -1 or 1; `out` is the logit of 1. Greys between count as shares: no probability, but the usual loss."""

    levels = 2

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        """[B] nats."""
        return -F.binary_cross_entropy_with_logits(out, (x + 1) / 2, reduction="none").flatten(1).sum(1)

    def mean(self, out: Tensor) -> Tensor:
        """[B, C, *] in (-1, 1)."""
        return 2 * out.sigmoid() - 1

    def draw(self, out: Tensor, rng: torch.Generator | None) -> Tensor:
        """[B, C, *] of -1 and 1."""
        return torch.where(uniform_like(out, rng) < out.sigmoid(), 1.0, -1.0).to(out)


class Gaussian(Likelihood):
    """Continuous elements, with one learned deviation for all, or with `per_element` one that the decoder outputs for each.

    Args:
        std: the deviation at first.
        per_element: whether the decoder also outputs a log deviation for each element, to which the learned one is added.
        min_log_std: lower bound of the log deviation, for densities that data can make infinite.
    """

    def __init__(self, std: float = 1.0, *, per_element: bool = False, min_log_std: float = -5.0) -> None:
        super().__init__()
        self.outputs, self.min_log_std = 2 if per_element else 1, min_log_std
        self.log_std = nn.Parameter(torch.tensor(float(std)).log())

    def mean_and_std(self, out: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation, each [B, C, *]."""
        mean, log_std = out.chunk(2, 1) if self.outputs == 2 else (out, torch.zeros_like(out))
        return mean, (log_std + self.log_std).clamp(min=self.min_log_std).exp()

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        """[B] nats."""
        return gaussian_log_prob(x, *self.mean_and_std(out)).flatten(1).sum(1)

    def mean(self, out: Tensor) -> Tensor:
        """[B, C, *]"""
        return self.mean_and_std(out)[0]

    def draw(self, out: Tensor, rng: torch.Generator | None) -> Tensor:
        """[B, C, *]"""
        mean, std = self.mean_and_std(out)
        return mean + std * normal_like(mean, rng)


class DiscretisedLogistic(Likelihood):
    """`levels` of grey from -1 to 1 at equal distances, with one learned scale, or with `per_element` one for each element.

    Args:
        levels: of grey.
        per_element: whether the decoder also outputs a log scale for each element, to which the learned one is added.
        scale: the scale at first.
    """

    def __init__(self, levels: int = 256, *, per_element: bool = False, scale: float = 0.3) -> None:
        super().__init__()
        self.levels, self.outputs = levels, 2 if per_element else 1
        self.log_scale = nn.Parameter(torch.tensor(float(scale)).log())

    def mean_and_log_scale(self, out: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log scale of the logistic, each [B, C, *]; the log scale is at least -7."""
        mean, log_scale = out.chunk(2, 1) if self.outputs == 2 else (out, torch.zeros_like(out))
        return mean, (log_scale + self.log_scale).clamp(min=-7)

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        """[B] nats."""
        return discretised_logistic_log_prob(x, *self.mean_and_log_scale(out), self.levels).flatten(1).sum(1)

    def mean(self, out: Tensor) -> Tensor:
        """[B, C, *], clamped to [-1, 1]."""
        return self.mean_and_log_scale(out)[0].clamp(-1, 1)

    def draw(self, out: Tensor, rng: torch.Generator | None) -> Tensor:
        """[B, C, *] of grey levels."""
        mean, log_scale = self.mean_and_log_scale(out)
        x = mean + log_scale.exp() * uniform_like(mean, rng).logit()
        bin = 2 / (self.levels - 1)
        return ((x + 1) / bin).round().clamp(0, self.levels - 1) * bin - 1
