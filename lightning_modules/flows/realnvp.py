"""RealNVP: affine couplings; of images, by checkerboards and channels at several scales.

System: RealNVP
Source: Dinh et al. 2017, arXiv:1605.08803, sections 3 and 4.
Differs: ActNorm in place of batch norm; of vectors, once, before the first coupling.
"""

from __future__ import annotations

import math

from lightning_modules.flows.bijection import Bijection, Chain
from lightning_modules.flows.coupling import Checkerboard, Coupling, Halves, alternating
from lightning_modules.flows.elementwise import ActNorm, Logit
from lightning_modules.flows.flow import Flow
from lightning_modules.flows.images import MultiScale, Squeeze, check_halvable
from lightning_modules.nets.conditioned import MLP, Residual
from lightning_modules.optim import Adam, Optim


def of_vectors(size: int, count: int, width: int, cond: int) -> Chain:
    """The bijection of vectors [B, size].

    Args:
        size: D.
        count: couplings.
        width: units of each of two hidden layers.
        cond: features of the condition.
    """

    def net(fixed: int, changing: int) -> MLP:
        return MLP(fixed, 2 * changing, width=width, depth=2, cond=cond)

    return Chain([ActNorm((size,)), *alternating(size, count, net)])


def of_images(shape: tuple[int, ...], count: int, width: int, blocks: int, cond: int) -> MultiScale:
    """The bijection of images: at all scales but the last, three checkerboards, a squeeze and three couplings of channels; then
    four checkerboards.

    Args:
        shape: (C, H, W).
        count: scales.
        width: channels of the networks at full resolution; twice as many after each squeeze.
        blocks: residual blocks of each network.
        cond: features of the condition.
    """
    (channels, *sides), scales, shapes = shape, [], []
    for i in range(count):
        last, parts = i + 1 == count, []
        for j in range(4 if last else 3):
            net = Residual(channels, 2 * channels, width=width, blocks=blocks, cond=cond)
            parts += [ActNorm((channels, *sides)), Coupling(Checkerboard(sides, flip=j % 2 == 1), net)]
        if not last:
            channels, sides = 4 * channels, [side // 2 for side in sides]
            parts.append(Squeeze())
            for j in range(3):
                net = Residual(channels // 2, channels, width=2 * width, blocks=blocks, cond=cond)
                parts += [ActNorm((channels, *sides)), Coupling(Halves(channels, flip=j % 2 == 1), net)]
        scales.append(Chain(parts))
        shapes.append((channels, *sides))
        channels, width = channels if last else channels // 2, 2 * width
    return MultiScale(scales, shapes)


class RealNVP(Flow):
    """RealNVP of vectors [B, D], or of images [B, C, H, W] in [-1, 1] whose sides 2^(scales - 1) divides.

    Args:
        shape: of an example.
        depth: for vectors, couplings; for images, residual blocks in each network.
        width: hidden units, or channels at full resolution.
        scales: of images.
        levels, dequantiser, classes, optim: as in `Flow`.

    Raises:
        ValueError: the sides cannot be halved so often.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        depth: int = 8,
        width: int = 64,
        scales: int = 2,
        levels: int = 0,
        dequantiser: int = 0,
        classes: int = 0,
        optim: Optim = Adam(),
    ) -> None:
        if len(shape) == 1:
            bijection: Bijection = of_vectors(shape[0], depth, width, classes)
        else:
            check_halvable(shape, scales, scales - 1)
            bijection = Chain([Logit(*interval(levels)), of_images(shape, scales, width, depth, classes)])
        super().__init__(
            bijection,
            shape,
            noise=(math.prod(shape),),
            levels=levels,
            dequantiser=dequantiser,
            classes=classes,
            optim=optim,
        )


def interval(levels: int) -> tuple[float, float]:
    """The ends of the interval of dequantised grey levels; -1 and 1 for continuous images (0 levels)."""
    half = 1 / (levels - 1) if levels else 0.0
    return -1 - half, 1 + half
