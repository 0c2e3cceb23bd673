"""What a decoder's numbers say about an example: a distribution of each of its numbers by itself.

Source: Kingma & Welling 2014, arXiv:1312.6114, appendix C; the logistic: Kingma et al. 2016, arXiv:1606.04934, appendix C.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.objectives import discretised_logistic_log_prob, gaussian_log_prob


def noise(like: Tensor, rng: torch.Generator | None, *, even: bool = False) -> Tensor:
    """Standard normal numbers, or even ones in (0, 1), of the shape, type and device of `like`; drawn where `rng` lives."""
    device = rng.device if rng else "cpu"
    draw = torch.rand if even else torch.randn
    drawn = draw(like.shape, generator=rng, device=device, dtype=torch.float64)
    return (drawn.clamp(1e-12, 1 - 1e-12) if even else drawn).to(like)


class Likelihood(nn.Module):
    """Distribution of x [B, C, *] given a decoder's `out` [B, numbers * C, *]."""

    numbers = 1
    """How many the decoder puts out for each number of an example, in blocks along dimension 1."""

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        """Of each example, [B] nats."""
        raise NotImplementedError(f"{type(self).__name__} does not score")

    def mean(self, out: Tensor) -> Tensor:
        """[B, C, *]; of the discretised, before it is cut into levels."""
        raise NotImplementedError(f"{type(self).__name__} has no mean")

    def draw(self, out: Tensor, rng: torch.Generator | None) -> Tensor:
        """[B, C, *]"""
        raise NotImplementedError(f"{type(self).__name__} does not draw")


class Bernoulli(Likelihood):
    """Pixels that are -1 or 1; `out` is the logit of 1. Greys between count as shares: no probability, but the usual loss."""

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(out, (x + 1) / 2, reduction="none").flatten(1).sum(1)

    def mean(self, out: Tensor) -> Tensor:
        return 2 * out.sigmoid() - 1

    def draw(self, out: Tensor, rng: torch.Generator | None) -> Tensor:
        return torch.where(noise(out, rng, even=True) < out.sigmoid(), 1.0, -1.0).to(out)


class Gaussian(Likelihood):
    """Continuous numbers; all of one learned deviation, or with `each` of one that the decoder tells for each.

    Args:
        std: at first.
        least: log deviation below which none falls, for densities that data can make infinite.
    """

    def __init__(self, std: float = 1.0, *, each: bool = False, least: float = -5.0) -> None:
        super().__init__()
        self.numbers, self.least = 2 if each else 1, least
        self.log_std = nn.Parameter(torch.tensor(float(std)).log())

    def parts(self, out: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = out.chunk(2, 1) if self.numbers == 2 else (out, torch.zeros_like(out))
        return mean, (log_std + self.log_std).clamp(min=self.least).exp()

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        return gaussian_log_prob(x, *self.parts(out)).flatten(1).sum(1)

    def mean(self, out: Tensor) -> Tensor:
        return self.parts(out)[0]

    def draw(self, out: Tensor, rng: torch.Generator | None) -> Tensor:
        mean, std = self.parts(out)
        return mean + std * noise(mean, rng)


class DiscretisedLogistic(Likelihood):
    """`levels` of grey, evenly spaced from -1 to 1; one learned scale for all, or with `each` one that the decoder tells for each.

    Args:
        scale: at first.
    """

    def __init__(self, levels: int = 256, *, each: bool = False, scale: float = 0.3) -> None:
        super().__init__()
        self.levels, self.numbers = levels, 2 if each else 1
        self.log_scale = nn.Parameter(torch.tensor(float(scale)).log())

    def parts(self, out: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale = out.chunk(2, 1) if self.numbers == 2 else (out, torch.zeros_like(out))
        return mean, (log_scale + self.log_scale).clamp(min=-7)

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        return discretised_logistic_log_prob(x, *self.parts(out), self.levels).flatten(1).sum(1)

    def mean(self, out: Tensor) -> Tensor:
        return self.parts(out)[0].clamp(-1, 1)

    def draw(self, out: Tensor, rng: torch.Generator | None) -> Tensor:
        mean, log_scale = self.parts(out)
        x = mean + log_scale.exp() * noise(mean, rng, even=True).logit()
        bin = 2 / (self.levels - 1)
        return ((x + 1) / bin).round().clamp(0, self.levels - 1) * bin - 1
