"""Autoregressive mixtures of Gaussians: each value is mapped by its distribution function, so that whole modes are pulled apart.

Source: Papamakarios et al. 2017, arXiv:1705.07057, sections 3.1 and 4 (MAF MoG: a MADE whose conditionals are mixtures is the base).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_modules.flows.bijection import Bijection, Mapped
from lightning_modules.flows.flow import normal_log_prob
from lightning_modules.nets.masked import MaskedMLP


def components(raw: Tensor, bound: float = 4.0) -> tuple[Tensor, Tensor, Tensor]:
    """Log weights, means and log deviations [B, K, D] of mixtures from a network's outputs [B, 3 K, D].

    Differs: the log deviations are bounded, as affine scales are.
    """
    weight, mean, log_std = raw.chunk(3, 1)
    return weight.log_softmax(1), mean, bound * torch.tanh(log_std / bound)


def gaussianise(x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
    """Standard normal values z = ndtri(F(x)) [B, D] of x [B, D] under the mixtures of `raw` [B, 3 K, D], and log dz/dx.

    Where F(x) is too small for the type, z stays at its bound; with normal noise the density is exact even there. Values of 16 bits
    are computed in float32, because `ndtri` has no kernel for them.
    """
    if x.dtype.itemsize < 4:
        z, logs = gaussianise(x.float(), raw.float())
        return z.to(x), logs.to(x)
    logs, mean, log_std = components(raw)
    u = (x[:, None] - mean) * (-log_std).exp()
    log_prob = (logs + normal_log_prob(u) - log_std).logsumexp(1)
    tiny = torch.finfo(x.dtype).tiny
    below, above = ((logs.exp() * torch.special.ndtr(side)).sum(1).clamp(min=tiny) for side in (u, -u))
    lower = below < above  # the smaller tail is the precise one
    tail = torch.special.ndtri(torch.where(lower, below, above))
    z = torch.where(lower, tail, -tail)
    return z, log_prob - normal_log_prob(z)


@torch.no_grad()
def degaussianise(z: Tensor, raw: Tensor) -> Tensor:
    """The inverse of `gaussianise`, [B, D]: by bisection between the smallest and the largest answer of the components alone."""
    _, mean, log_std = components(raw)
    alone = mean + log_std.exp() * z[:, None]
    low, high = alone.amin(1), alone.amax(1)
    for _ in range(64 if z.dtype == torch.float64 else 32):
        middle = (low + high) / 2
        short = gaussianise(middle, raw)[0] < z
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    return (low + high) / 2


class MixtureAutoregressive(Bijection):
    """z_i = ndtri(F_i(x_i)), where F_i is the distribution function of a mixture that depends on the x before x_i.

    Args:
        net: 3 K outputs for each input, for K components.
        spread: the means start evenly from -spread to spread, and the deviations as wide as the gap between two means: with wider
            ones, which all reach the same points, two components may share a mode and leave another without any.
    """

    start: Tensor

    def __init__(self, net: MaskedMLP, *, spread: float = 2.0) -> None:
        super().__init__()
        self.net = net
        count = net.outputs // 3
        start = torch.zeros(3, count, 1)
        if count > 1:
            start[1, :, 0] = torch.linspace(-spread, spread, count)
            start[2] = math.log(2 * spread / (count - 1))
        self.register_buffer("start", start.flatten(0, 1), persistent=False)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        z, logs = gaussianise(x, self.net(x, cond).unflatten(1, (self.net.outputs, -1)) + self.start)
        return Mapped(z, logs.sum(1))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        """One input after the other; without gradients."""
        logdet = z.new_zeros(len(z))

        def univariate(i: int, outputs: Tensor) -> Tensor:
            raw = outputs[:, :, None] + self.start
            x = degaussianise(z[:, i : i + 1], raw)
            logdet.sub_(gaussianise(x, raw)[1][:, 0])
            return x[:, 0]

        with torch.no_grad():
            return Mapped(self.net.unroll(univariate, z, cond), logdet)
