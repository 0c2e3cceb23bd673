"""Glow: ActNorm, an invertible 1x1 convolution and affine coupling, at several scales.

System: Glow
Source: Kingma & Dhariwal 2018, arXiv:1807.03039, section 3 and figure 2.
"""

from __future__ import annotations

import math

from torch import nn

from lightning_modules.flows.bijection import Bijection, Chain
from lightning_modules.flows.coupling import Coupling, Halves, sigmoid_affine
from lightning_modules.flows.elementwise import ActNorm
from lightning_modules.flows.flow import Flow
from lightning_modules.flows.images import MultiScale, Squeeze, check_halvable
from lightning_modules.flows.linear import InvertibleLinear, LULinear
from lightning_modules.nets.conditioned import ConvNet
from lightning_modules.nets.mlp import zero
from lightning_modules.optim import Adam, Optim


def step(shape: tuple[int, int, int], width: int, lu: bool, cond: int) -> list[Bijection]:
    """One step of the flow (figure 2a) for images of a shape.

    Args:
        shape: (C, H, W).
        width: channels inside the coupling's network.
        lu: keep the 1x1 convolution as LU factors.
        cond: features of the condition.
    """
    channels = shape[0]
    split = Halves(channels)
    net = ConvNet(split.sizes[0], 2 * split.sizes[1], width=width, cond=cond)
    linear = (LULinear if lu else InvertibleLinear)(channels)
    return [ActNorm(shape), linear, Coupling(split, net, sigmoid_affine)]


class Glow(Flow):
    """Glow of images [B, C, H, W].

    Args:
        shape: of an example.
        steps: of the flow at each scale, the paper's K.
        scales: the paper's L; each begins with a squeeze.
        width: channels inside the couplings' networks.
        lu: keep the 1x1 convolutions as LU factors.
        levels, dequantiser, classes, optim: as in `Flow`.

    Raises:
        ValueError: the sides cannot be halved so often.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        steps: int = 8,
        scales: int = 2,
        width: int = 64,
        lu: bool = True,
        levels: int = 0,
        dequantiser: int = 0,
        classes: int = 0,
        optim: Optim = Adam(),
    ) -> None:
        check_halvable(shape, scales, scales)
        (channels, height, side), parts, shapes = shape, [], []
        for _ in range(scales):
            channels, height, side = 4 * channels, height // 2, side // 2
            here = (channels, height, side)
            flow = [part for _ in range(steps) for part in step(here, width, lu, classes)]
            parts.append(Chain([Squeeze(), *flow]))
            shapes.append(here)
            channels //= 2
        priors = [zero(nn.Conv2d(c // 2, c, 3, padding=1)) for c, _, _ in shapes[:-1]]
        super().__init__(
            MultiScale(parts, shapes, priors),
            shape,
            noise=(math.prod(shape),),
            levels=levels,
            dequantiser=dequantiser,
            classes=classes,
            optim=optim,
        )
