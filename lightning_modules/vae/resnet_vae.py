"""The ResNet VAE of images: layers of latents inferred on the way up and down, each with an autoregressive posterior.

Source: Kingma et al. 2016, arXiv:1606.04934, section 5.2 and appendix C, figures 3 and 6.
Differs: weight norm begins without a look at data; sizes change in layers of their own; steps are gates, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from lightning_modules.model import evaluating
from lightning_modules.nets.masked import degrees
from lightning_modules.objectives import gaussian_log_prob
from lightning_modules.vae.iaf_vae import gated
from lightning_modules.vae.likelihood import DiscretisedLogistic, noise
from lightning_modules.vae.vae import VAE, Inferred


def conv(inputs: int, outputs: int, side: int = 3, stride: int = 1) -> nn.Module:
    return weight_norm(nn.Conv2d(inputs, outputs, side, stride, side // 2))


def mask(below: Tensor, above: Tensor) -> Tensor:
    """[outputs, inputs, 3, 3]: all of the pixels before, and of the pixel itself the channels whose need is met."""
    seen = torch.zeros(len(above), len(below), 3, 3)
    seen[:, :, 0], seen[:, :, 1, 0] = 1, 1
    seen[:, :, 1, 1] = (above[:, None] >= below[None]).float()
    return seen


class MaskedConvs(nn.Module):
    """z [B, S, H, W], context [B, width, H, W] -> [B, 2 S, H, W] that see, row by row, the pixels before and the channels before."""

    def __init__(self, size: int, width: int, depth: int = 2) -> None:
        super().__init__()
        sizes, place = [size, *[width] * depth, 2 * size], torch.arange(size)
        needs = [place + 1, *[degrees(size, width, 0)] * depth, place.repeat(2)]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(sizes))
        for i, (below, above) in enumerate(pairwise(needs)):
            self.register_buffer(f"mask{i}", mask(below, above))

    def forward(self, z: Tensor, context: Tensor) -> Tensor:
        h = z
        for i, layer in enumerate(self.layers):
            h = F.conv2d(F.elu(h) if i else h, layer.weight * self.get_buffer(f"mask{i}"), layer.bias, padding=1)
            h = h if i else h + context
        return h


class Up(nn.Module):
    """One layer on the way up: h [B, width, H, W] -> h, and what it tells the way down [B, 2 S + width, H, W].

    Above the highest, `last`, there is nothing: it leaves h as it is.
    """

    def __init__(self, width: int, size: int, *, last: bool = False) -> None:
        super().__init__()
        self.sizes = [0 if last else width, 2 * size + width]
        self.enter, self.leave = conv(width, sum(self.sizes)), None if last else conv(width, width)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        inner, told = self.enter(F.elu(h)).split(self.sizes, 1)
        return h if self.leave is None else h + 0.1 * self.leave(F.elu(inner)), told


class Down(nn.Module):
    """One layer on the way down, with its latents [B, S, H, W]."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.size, self.sizes = size, [2 * size, 2 * size, width, width]
        self.enter, self.leave = conv(width, sum(self.sizes)), conv(width + size, width)
        self.step = MaskedConvs(size, width)

    def forward(self, h: Tensor, told: Tensor | None, even: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """h, the latents, and of each log q(z | x) and log p(z); without a word from below z is the prior's and both are equal."""
        prior, own, context, inner = self.enter(F.elu(h)).split(self.sizes, 1)
        mean, std = prior.chunk(2, 1)[0], prior.chunk(2, 1)[1].exp()
        unit = gaussian_log_prob(even, even.new_zeros(()), even.new_ones(()))
        if told is None:
            z = mean + std * even
            log_q = log_p = unit - std.log()
        else:
            start, word = told.split([2 * self.size, self.sizes[2]], 1)
            centre, log_std = (start + own).chunk(2, 1)
            scale, shift = gated(0.1 * self.step(z := centre + log_std.exp() * even, context + word))
            z, log_q = z * scale.exp() + shift, unit - log_std - scale
            log_p = gaussian_log_prob(z, mean, std)
        return h + 0.1 * self.leave(F.elu(torch.cat([inner, z], 1))), z, log_q, log_p


class Encoder(nn.Module):
    """x -> what each layer tells the way down, from the lowest to the highest."""

    def __init__(self, channels: int, scales: int, blocks: int, width: int, size: int) -> None:
        super().__init__()
        enter = [conv(channels if i == 0 else width, width, 5 if i == 0 else 3, 2) for i in range(scales)]
        self.enter = nn.ModuleList(enter)
        count = scales * blocks
        layers = [Up(width, size, last=i + 1 == count) for i in range(count)]
        self.blocks = nn.ModuleList(nn.ModuleList(layers[i : i + blocks]) for i in range(0, count, blocks))

    def forward(self, x: Tensor) -> list[Tensor]:
        h, told = x, []
        for enter, blocks in zip(self.enter, self.blocks, strict=True):
            h = enter(h)
            for block in blocks:
                h, word = block(h)
                told.append(word)
        return told


class Decoder(nn.Module):
    """The way down: what the layers are told, or nothing, and the numbers that they draw by -> the likelihood's numbers."""

    def __init__(self, channels: int, scales: int, blocks: int, width: int, size: int) -> None:
        super().__init__()
        self.top = nn.Parameter(torch.zeros(width, 1, 1))
        self.blocks = nn.ModuleList(nn.ModuleList(Down(width, size) for _ in range(blocks)) for _ in range(scales))
        self.leave = nn.ModuleList(conv(width, width) for _ in range(scales - 1))
        self.last = conv(width, 4 * channels)

    def forward(
        self, told: Sequence[Tensor] | None, evens: Sequence[Tensor]
    ) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        words = iter(reversed(told)) if told is not None else iter([None] * len(evens))
        h, found = self.top.expand(len(evens[0]), -1, *evens[0].shape[2:]), []
        draws = iter(evens)
        for i, blocks in enumerate(self.blocks):
            if i:
                h = self.leave[i - 1](F.interpolate(h, scale_factor=2))
            for block in blocks:
                h, *rest = block(h, next(words), next(draws))
                found.append(tuple(rest))
        return F.pixel_shuffle(self.last(F.elu(h)), 2), found


class ResNetVAE(VAE):
    """Images [B, C, H, W] of grey levels from -1 to 1, whose sides 2^scales divides.

    Args:
        shape: of an example.
        scales: of latents; the first is half as wide as the image, each other half the one before.
        blocks: layers of latents at each scale.
        width: channels.
        size: feature maps of latents in each layer.
        levels: of grey.
        free: nats that the divergence of each feature map costs at least, over all its places.
        kl_rise, lr, warmup: as in `VAE`.

    Raises:
        ValueError: the sides cannot be halved so often.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        scales: int = 2,
        blocks: int = 2,
        width: int = 32,
        size: int = 8,
        levels: int = 256,
        free: float = 0.0,
        kl_rise: int = 0,
        lr: float = 1e-3,
        warmup: int = 0,
    ) -> None:
        channels, high, wide = shape
        if high % 2**scales or wide % 2**scales:
            raise ValueError(f"Images of {high}x{wide} cannot be halved {scales} times; take fewer scales.")
        self.layers = [(size, high >> s + 1, wide >> s + 1) for s in reversed(range(scales)) for _ in range(blocks)]
        """Shape of each layer's latents, from the highest down."""
        parts = (channels, scales, blocks, width, size)
        latents = sum(c * h * w for c, h, w in self.layers)
        likelihood = DiscretisedLogistic(levels)
        super().__init__(
            Encoder(*parts),
            Decoder(*parts),
            likelihood,
            shape,
            latents,
            free=free,
            kl_rise=kl_rise,
            lr=lr,
            warmup=warmup,
        )

    def apart(self, even: Tensor) -> list[Tensor]:
        """Numbers [B, L] for each layer."""
        parts = even.split([c * h * w for c, h, w in self.layers], 1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, self.layers, strict=True)]

    def infer(self, told: Any, even: Tensor) -> Inferred:
        out, found = self.decoder(told, self.apart(even))
        kl = torch.cat([(log_q - log_p).flatten(2).sum(2) for _, log_q, log_p in found], 1)
        return Inferred(out, kl, -kl.sum(1))

    def generate(self, normal: Tensor) -> Tensor:
        return self.decoder(None, self.apart(normal))[0]

    @torch.no_grad()
    def pictures(self, data: Any, rng: torch.Generator) -> dict[str, Tensor]:
        """Rows of eight held-out images over their reconstructions."""
        x = data.test(32)["x"].to(self.device)
        with evaluating(self):
            out = self.infer(self.encoder(x), noise(x.new_empty(len(x), self.latents), rng)).out
        pairs = torch.stack([x.unflatten(0, (-1, 8)), self.likelihood.mean(out).unflatten(0, (-1, 8))], 1)
        return {"reconstructions": pairs.flatten(0, 2)}
