"""Glow: ActNorm, an invertible 1x1 convolution and affine coupling, at several scales.

Source: Kingma & Dhariwal 2018, arXiv:1807.03039, section 3 and figure 2.
"""

from __future__ import annotations

import math

from torch import nn

from lightning_modules.flows.bijection import Bijection, Chain
from lightning_modules.flows.coupling import Coupling, Halves, sigmoid_affine
from lightning_modules.flows.elementwise import ActNorm
from lightning_modules.flows.flow import Flow
from lightning_modules.flows.images import MultiScale, Squeeze, halvable
from lightning_modules.flows.linear import LUMix, Mix
from lightning_modules.nets.conditioned import Pixels
from lightning_modules.nets.mlp import zero


def step(shape: tuple[int, int, int], width: int, lu: bool, cond: int) -> list[Bijection]:
    """One step of the flow at images of a shape."""
    channels = shape[0]
    half = Halves(channels)
    net = Pixels(half.sizes[0], 2 * half.sizes[1], width=width, cond=cond)
    return [ActNorm(shape), (LUMix if lu else Mix)(channels), Coupling(half, net, sigmoid_affine)]


class Glow(Flow):
    """Images [B, C, H, W].

    Args:
        shape: of an example.
        steps: of the flow at each scale, the paper's K.
        scales: the paper's L; each begins with a squeeze.
        width: channels inside the couplings' networks.
        lu: keep the 1x1 convolutions as LU factors.
        levels, smear, classes, lr, warmup: as in `Flow`.

    Raises:
        ValueError: the sides cannot be halved so often.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        steps: int = 8,
        scales: int = 2,
        width: int = 64,
        lu: bool = True,
        levels: int = 0,
        smear: int = 0,
        classes: int = 0,
        lr: float = 1e-3,
        warmup: int = 0,
    ) -> None:
        halvable(shape, scales, scales)
        (channels, high, wide), parts, shapes = shape, [], []
        for _ in range(scales):
            channels, high, wide = 4 * channels, high // 2, wide // 2
            here = (channels, high, wide)
            flow = [part for _ in range(steps) for part in step(here, width, lu, classes)]
            parts.append(Chain([Squeeze(), *flow]))
            shapes.append(here)
            channels //= 2
        tell = [zero(nn.Conv2d(c // 2, c, 3, padding=1)) for c, _, _ in shapes[:-1]]
        bijection = MultiScale(parts, shapes, tell)
        super().__init__(
            bijection,
            shape,
            noise=(math.prod(shape),),
            levels=levels,
            smear=smear,
            classes=classes,
            lr=lr,
            warmup=warmup,
        )
