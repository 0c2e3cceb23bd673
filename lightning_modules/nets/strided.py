"""The strided convolutional networks of DCGAN, for images of any size.

Source: Radford et al. 2016, arXiv:1511.06434, section 3 and figure 1; the 5x5 kernels: its published code.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from lightning_modules.nets.adversarial import Body, Discriminator, Norm, VirtualBatchNorm, norm


def sizes(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Heights and widths, from an image's own down to at most 4x4, each half of the one before, rounded up.

    Raises:
        ValueError: the shape is not that of images larger than 4x4.
    """
    if len(shape) != 3 or max(shape[1:]) <= 4 or min(shape) < 1:
        raise ValueError(
            f"Strided networks take images (C, H, W) higher or wider than 4 pixels, and were given {shape}."
        )
    found = [(shape[1], shape[2])]
    while max(found[-1]) > 4:
        height, width = found[-1]
        found.append(((height + 1) // 2, (width + 1) // 2))
    return found


def strided_generator(
    latents: int, shape: tuple[int, ...], *, width: int = 64, kind: Norm = "batch", reference: int = 64
) -> Body:
    """A generator: latents [B, latents] -> images [B, C, H, W] in (-1, 1).

    Args:
        width: channels at half the resolution; twice as many at each coarser one.
        kind: normalisation of the hidden layers.
        reference: rows of the reference batch, for virtual batch norm.

    Raises:
        ValueError: as in `sizes`.
    """
    steps = sizes(shape)[::-1]
    channels = [width * 2**i for i in reversed(range(len(steps) - 1))]
    layers = [nn.Linear(latents, channels[0] * math.prod(steps[0])), nn.Unflatten(1, (channels[0], *steps[0]))]
    for i, (size, target) in enumerate(pairwise(steps)):
        layers += [norm(kind, channels[i], reference, images=True), nn.ReLU()]
        odd = (target[0] - 2 * size[0] + 1, target[1] - 2 * size[1] + 1)
        outputs = channels[i + 1] if i + 1 < len(channels) else shape[0]
        layers.append(nn.ConvTranspose2d(channels[i], outputs, 5, stride=2, padding=2, output_padding=odd))
    return Body(
        dcgan_init(nn.Sequential(*layers, nn.Tanh())), torch.randn(reference, latents) if kind == "virtual" else None
    )


def strided_discriminator(
    shape: tuple[int, ...], *, width: int = 64, kind: Norm = "batch", kernels: int = 0, reference: int = 64
) -> Discriminator:
    """A discriminator: images [B, C, H, W] -> [B], without normalisation in the first layer.

    Args:
        width, kind, reference: as in `strided_generator`.
        kernels: of minibatch discrimination; 0: none.

    Raises:
        ValueError: as in `sizes`.
    """
    steps = sizes(shape)
    layers: list[nn.Module] = []
    inputs = shape[0]
    for i in range(len(steps) - 1):
        outputs = width * 2**i
        layers.append(nn.Conv2d(inputs, outputs, 5, stride=2, padding=2))
        layers += [norm(kind, outputs, reference, images=True) if i else nn.Identity(), nn.LeakyReLU(0.2)]
        inputs = outputs
    features = inputs * math.prod(steps[-1])
    body = Body(dcgan_init(nn.Sequential(*layers)), torch.zeros(reference, *shape) if kind == "virtual" else None)
    return Discriminator(body, features, kernels)


def dcgan_init(net: nn.Module) -> nn.Module:
    """The network with new weights: kernels from N(0, 0.02), scales from N(1, 0.02), biases 0. Source: arXiv:1511.06434, section 4."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, 0, 0.02)
            nn.init.zeros_(layer.bias)
        scale: Tensor | None = getattr(layer, "scale", None) if isinstance(layer, VirtualBatchNorm) else None
        if isinstance(layer, nn.BatchNorm2d):
            scale = layer.weight
        if scale is not None:
            nn.init.normal_(scale, 1, 0.02)
    return net
