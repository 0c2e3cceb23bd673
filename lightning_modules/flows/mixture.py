"""Autoregressive mixtures of Gaussians: each number by its distribution function, so that whole modes are torn apart.

Source: Papamakarios et al. 2017, arXiv:1705.07057, sections 3.1 and 4 (MAF MoG: a MADE whose conditionals are mixtures is the base).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_modules.flows.autoregressive import MaskedMLP
from lightning_modules.flows.bijection import Bijection, Mapped
from lightning_modules.flows.flow import normal_log_prob


def parts(raw: Tensor, bound: float = 4.0) -> tuple[Tensor, Tensor, Tensor]:
    """Log weights, means and log deviations [B, K, D] of the mixtures that a network's numbers [B, 3 K, D] mean.

    Differs: the deviations are bounded, as affine scales are.
    """
    share, mean, log_std = raw.chunk(3, 1)
    return share.log_softmax(1), mean, bound * torch.tanh(log_std / bound)


def through(x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
    """The mixtures of `raw` [B, 3 K, D] at x [B, D]: normal numbers, and log slopes.

    Beyond what the type's smallest number tells, the normal numbers stay; with normal noise the density is exact even there.
    """
    logs, mean, log_std = parts(raw)
    u = (x[:, None] - mean) * (-log_std).exp()
    log_prob = (logs + normal_log_prob(u) - log_std).logsumexp(1)
    below, above = (
        ((logs.exp() * torch.special.ndtr(way)).sum(1)).clamp(min=torch.finfo(x.dtype).tiny) for way in (u, -u)
    )
    less = below < above  # the smaller tail is the one that is told precisely
    tail = torch.special.ndtri(torch.where(less, below, above))
    z = torch.where(less, tail, -tail)
    return z, log_prob - normal_log_prob(z)


@torch.no_grad()
def back(z: Tensor, raw: Tensor) -> Tensor:
    """Where the mixtures of `raw` [B, 3 K, D] give z [B, D]: by bisection between the outermost components' own answers."""
    _, mean, log_std = parts(raw)
    alone = mean + log_std.exp() * z[:, None]
    low, high = alone.amin(1), alone.amax(1)
    for _ in range(64 if z.dtype == torch.float64 else 32):
        middle = (low + high) / 2
        short = through(middle, raw)[0] < z
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    return (low + high) / 2


class MixtureAutoregressive(Bijection):
    """Each number becomes normal by the distribution function of a mixture that is told by those before it.

    Args:
        net: puts out 3 K numbers for each of K components.
        spread: their means start evenly from -spread to spread, their deviations as far as from one to the next: broader ones, which
            all reach the same points, now and then share a mode and leave another to none.
    """

    def __init__(self, net: MaskedMLP, *, spread: float = 2.0) -> None:
        super().__init__()
        self.net = net
        components = net.outputs // 3
        start = torch.zeros(3, components, 1)
        if components > 1:
            start[1, :, 0] = torch.linspace(-spread, spread, components)
            start[2] = math.log(2 * spread / (components - 1))
        self.register_buffer("start", start.flatten(0, 1), persistent=False)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        z, logs = through(x, self.net(x, cond).unflatten(1, (self.net.outputs, -1)) + self.start)
        return Mapped(z, logs.sum(1))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        """One place after the other; no gradient passes."""
        logdet = z.new_zeros(len(z))

        def fill(i: int, numbers: Tensor) -> Tensor:
            raw = numbers[:, :, None] + self.start
            x = back(z[:, i : i + 1], raw)
            logdet.sub_(through(x, raw)[1][:, 0])
            return x[:, 0]

        with torch.no_grad():
            return Mapped(self.net.unroll(fill, z, cond), logdet)
