"""A discriminator that judges overlapping patches of an image, each by itself.

Source: Isola et al. 2017, arXiv:1611.07004, section 3.2.2 and appendix 6.1.2.
"""

from __future__ import annotations

from torch import Tensor, nn

from lightning_modules.nets.adversarial import Norm, norm
from lightning_modules.nets.strided import dcgan_init


class PatchDiscriminator(nn.Module):
    """Images [B, C, H, W] -> logits of their patches [B, 1, h, w].

    Args:
        channels: C of the images.
        width: channels at half the resolution.
        halvings: how often the image is halved; 3 judges patches of 70 x 70 pixels.
        kind: normalisation of the hidden layers but the first.
    """

    def __init__(self, channels: int, *, width: int = 64, halvings: int = 3, kind: Norm = "batch") -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        c = width
        for i in range(1, halvings + 1):
            wide, stride = width * min(2**i, 8), 2 if i < halvings else 1
            layers += [nn.Conv2d(c, wide, 4, stride, 1), norm(kind, wide, 0, images=True), nn.LeakyReLU(0.2)]
            c = wide
        self.body = dcgan_init(nn.Sequential(*layers, nn.Conv2d(c, 1, 4, 1, 1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)
