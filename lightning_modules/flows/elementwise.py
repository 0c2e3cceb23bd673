"""Elementwise bijections, and normalisation of channels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional as F

from lightning_modules.flows.bijection import Bijection, Mapped, per_location, sum_features


class Scale(Bijection):
    """Each dimension times a learned positive factor.

    Source: Dinh et al. 2015, arXiv:1410.8516, section 3.3.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(*shape))

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        return Mapped(x * self.log_scale.exp(), self.log_scale.sum().expand(len(x)))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        return Mapped(z * (-self.log_scale).exp(), -self.log_scale.sum().expand(len(z)))


class Logit(Bijection):
    """The logit of values in [low, high], first scaled into [margin, 1 - margin] so that the ends stay finite.

    Source: Dinh et al. 2017, arXiv:1605.08803, section 4.1.
    """

    def __init__(self, low: float = -1.0, high: float = 1.0, margin: float = 0.05) -> None:
        super().__init__()
        self.low, self.slope, self.margin = low, (1 - 2 * margin) / (high - low), margin

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        p = self.margin + (x - self.low) * self.slope
        return Mapped(p.log() - (-p).log1p(), sum_features(math.log(self.slope) - p.log() - (-p).log1p()))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        x = self.low + (z.sigmoid() - self.margin) / self.slope
        return Mapped(x, sum_features(F.logsigmoid(z) + F.logsigmoid(-z) - math.log(self.slope)))


def per_channel(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of a parameter for each channel of examples of a shape (C, *D): (C, 1, ...)."""
    return (shape[0], *[1] * (len(shape) - 1))


def channelwise(x: Tensor) -> tuple[int, ...]:
    """The dimensions of x [B, C, *] over which a channel's moments are taken: all but the second."""
    return (0, *range(2, x.dim()))


def shared_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance, as [C, 1, ...], of every channel over the batches of all workers; differentiable, and the same on each.

    In float64, where the device has it, and in two passes: E x^2 - (E x)^2 in float32 loses a variance of 1 next to a mean of 1e4.
    """
    wide = x.float() if x.device.type == "mps" else x.double()
    mean = mean_of_workers(wide.mean(channelwise(x), keepdim=True)[0])
    return mean, mean_of_workers((wide - mean).square().mean(channelwise(x), keepdim=True)[0])


def mean_of_workers(x: Tensor) -> Tensor:
    """The mean of x over all workers; differentiable."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        return all_reduce(x) / dist.get_world_size()
    return x


class ActNorm(Bijection):
    """A learned scale and shift of every channel. While `fitting` is set, a call sets them so that the output has mean 0 and variance 1.

    Source: Kingma & Dhariwal 2018, arXiv:1807.03039, section 3.1.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        size = per_channel(shape)
        self.log_scale, self.shift = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(size))
        self.fitting = False

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        if self.fitting:
            self.fit(x)
        return Mapped((x + self.shift) * self.log_scale.exp(), self.logdet(x))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        return Mapped(z * (-self.log_scale).exp() - self.shift, -self.logdet(z))

    def logdet(self, x: Tensor) -> Tensor:
        """[B], for x [B, C, *]."""
        return per_location(self.log_scale.sum(), x)

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Set scale and shift by the batches x [B, C, *] of all workers; a channel that does not vary keeps the scale 1."""
        mean, var = shared_moments(x)
        varies = var.sqrt() > torch.finfo(x.dtype).eps * mean.abs()  # by more than its values are rounded
        self.shift.copy_(-mean)
        self.log_scale.copy_(torch.where(varies, -0.5 * var.log(), 0.0))


class BatchNorm(Bijection):
    """Standardisation of every channel: in training by the batch's moments, over all workers, else by a running average of them.

    Source: Dinh et al. 2017, arXiv:1605.08803, section 3.7; Papamakarios et al. 2017, arXiv:1705.07057, appendix B.
    Differs: evaluation uses a running average, not the moments of the whole training set. The inverse always uses it.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, shape: Sequence[int], *, momentum: float = 0.1, eps: float = 1e-12) -> None:
        super().__init__()
        size = per_channel(shape)
        self.momentum, self.eps = momentum, eps
        self.log_scale, self.shift = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(size))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("var", torch.ones(size))

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        mean, var = self.mean, self.var
        if self.training:
            mean, var = (m.to(x) for m in shared_moments(x))
            self.mean.lerp_(mean.detach(), self.momentum)
            self.var.lerp_(var.detach(), self.momentum)
        log_gain = self.log_scale - 0.5 * (var + self.eps).log()
        return Mapped((x - mean) * log_gain.exp() + self.shift, per_location(log_gain.sum(), x))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        log_gain = self.log_scale - 0.5 * (self.var + self.eps).log()
        return Mapped((z - self.shift) * (-log_gain).exp() + self.mean, -per_location(log_gain.sum(), z))
