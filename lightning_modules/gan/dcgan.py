"""DCGAN: a GAN whose nets are strided convolutions with batch norm.

Source: Radford et al. 2016, arXiv:1511.06434, sections 3 and 4.
Differs: the noise is normal, in place of uniform.
"""

from __future__ import annotations

from lightning_modules.gan.gan import GAN
from lightning_modules.nets.strided import strided_critic, strided_generator


class DCGAN(GAN):
    """Images in [-1, 1].

    Args:
        shape: (C, H, W), higher or wider than 4 pixels.
        noise: numbers that the generator starts from.
        width: channels at half the resolution; twice as many at each coarser one.
        lr, betas: of both players' Adam.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        noise: int = 100,
        *,
        width: int = 64,
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
    ) -> None:
        generator = strided_generator(noise, shape, width=width)
        super().__init__(generator, strided_critic(shape, width=width), noise, lr=lr, betas=betas)
