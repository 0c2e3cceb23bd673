"""RealNVP: affine coupling; of images, by checkerboards and channels at several scales.

Source: Dinh et al. 2017, arXiv:1605.08803, sections 3 and 4.
Differs: ActNorm in place of batch norm; of vectors, once, before the first coupling.
"""

from __future__ import annotations

from lightning_modules.flows.bijection import Bijection, Chain
from lightning_modules.flows.coupling import Checkerboard, Coupling, Halves, Turns, affine
from lightning_modules.flows.elementwise import ActNorm, Logit
from lightning_modules.flows.flow import Flow
from lightning_modules.flows.images import MultiScale, Squeeze, halvable
from lightning_modules.nets.conditioned import Plain, Residual


def couplings(size: int, count: int, width: int, depth: int, cond: int) -> list[Bijection]:
    """For vectors [B, size]."""

    def net(known: int, moved: int) -> Plain:
        return Plain(known, 2 * moved, width=width, depth=depth, cond=cond)

    return [ActNorm((size,)), Turns(size, count, net)]


def multiscale(shape: tuple[int, ...], count: int, width: int, blocks: int, cond: int) -> MultiScale:
    """For images: at all scales but the last three checkerboards, a squeeze and three couplings of channels; then four checkerboards."""
    (channels, *sides), levels, shapes = shape, [], []
    for i in range(count):
        last, parts = i + 1 == count, []
        for j in range(4 if last else 3):
            net = Residual(channels, 2 * channels, width=width, blocks=blocks, cond=cond)
            board = Checkerboard(sides, flip=j % 2 == 1)
            parts += [ActNorm((channels, *sides)), Coupling(board, net, affine)]
        if not last:
            channels, sides = 4 * channels, [side // 2 for side in sides]
            parts.append(Squeeze())
            for j in range(3):
                net = Residual(channels // 2, channels, width=2 * width, blocks=blocks, cond=cond)
                half = Halves(channels, flip=j % 2 == 1)
                parts += [ActNorm((channels, *sides)), Coupling(half, net, affine)]
        levels.append(Chain(parts))
        shapes.append((channels, *sides))
        channels, width = channels if last else channels // 2, 2 * width
    return MultiScale(levels, shapes)


class RealNVP(Flow):
    """Vectors [B, D], or images [B, C, H, W] in [-1, 1] whose sides 2^(scales - 1) divides.

    Args:
        shape: of an example.
        depth: of vectors: couplings; of images: residual blocks in each network.
        width: hidden units, or channels at full resolution.
        scales: of images.
        levels, smear, classes, lr, warmup: as in `Flow`.

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
        smear: int = 0,
        classes: int = 0,
        lr: float = 1e-3,
        warmup: int = 0,
    ) -> None:
        if len(shape) == 1:
            bijection: Bijection = Chain(couplings(shape[0], depth, width, 2, classes))
            noise = shape
        else:
            halvable(shape, scales, scales - 1)
            bijection = Chain([Logit(*around(levels)), multiscale(shape, scales, width, depth, classes)])
            noise = (shape[0] * shape[1] * shape[2],)
        super().__init__(
            bijection, shape, noise=noise, levels=levels, smear=smear, classes=classes, lr=lr, warmup=warmup
        )


def around(levels: int) -> tuple[float, float]:
    """Between what numbers lie, with the noise of dequantisation."""
    half = 1 / (levels - 1) if levels else 0.0
    return -1 - half, 1 + half
