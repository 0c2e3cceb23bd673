"""DCGAN: a GAN whose networks are strided convolutions with batch norm.

System: DCGAN
Source: Radford et al. 2016, arXiv:1511.06434, sections 3 and 4.
Differs: the latents are normal, in place of uniform.
"""

from __future__ import annotations

from lightning_modules.gan.gan import GAN
from lightning_modules.nets.strided import strided_discriminator, strided_generator
from lightning_modules.optim import Adam, Optim


class DCGAN(GAN):
    """A GAN of images [B, C, H, W] in [-1, 1].

    Args:
        shape: (C, H, W), higher or wider than 4 pixels.
        latents: that an image is generated from.
        width: channels at half the resolution; twice as many at each coarser one.
        optim: of each of the two networks.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        latents: int = 100,
        *,
        width: int = 64,
        optim: Optim = Adam(2e-4, betas=(0.5, 0.999)),
    ) -> None:
        generator = strided_generator(latents, shape, width=width)
        super().__init__(generator, strided_discriminator(shape, width=width), latents, optim=optim)
