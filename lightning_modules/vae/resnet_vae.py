"""The ResNet VAE of images: layers of latents, inferred bottom-up and top-down, each with an autoregressive posterior.

Source: Kingma et al. 2016, arXiv:1606.04934, section 5.2 and appendix C, figures 3 and 6.
Differs: weight norm is not initialised from data; sizes change in layers of their own; autoregressive steps are gates, algorithm 1.
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
from lightning_modules.optim import Adam, Optim
from lightning_modules.vae.iaf_vae import gated
from lightning_modules.vae.likelihood import DiscretisedLogistic, normal_like
from lightning_modules.vae.vae import VAE, Inferred


def conv(inputs: int, outputs: int, side: int = 3, stride: int = 1) -> nn.Module:
    """A weight-normalised convolution [B, inputs, H, W] -> [B, outputs, H / stride, W / stride], with a kernel of side x side."""
    return weight_norm(nn.Conv2d(inputs, outputs, side, stride, side // 2))


def mask(below: Tensor, above: Tensor) -> Tensor:
    """The mask of a 3x3 kernel, [outputs, inputs, 3, 3]: 1 for the pixels before, and for the pixel itself where above >= below.

    Args:
        below, above: degrees [inputs] and [outputs] of the channels.
    """
    allowed = torch.zeros(len(above), len(below), 3, 3)
    allowed[:, :, 0], allowed[:, :, 1, 0] = 1, 1
    allowed[:, :, 1, 1] = (above[:, None] >= below[None]).float()
    return allowed


class MaskedConvs(nn.Module):
    """Autoregressive convolutions: each output depends on the pixels before its own, row by row, and on the channels before its own.

    Args:
        size: S, channels of the latents.
        width, depth: channels and number of the hidden layers.
    """

    def __init__(self, size: int, width: int, depth: int = 2) -> None:
        super().__init__()
        sizes, order = [size, *[width] * depth, 2 * size], torch.arange(size)
        channel_degrees = [order + 1, *[degrees(size, width, 0)] * depth, order.repeat(2)]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(sizes))
        for i, (below, above) in enumerate(pairwise(channel_degrees)):
            self.register_buffer(f"mask{i}", mask(below, above))

    def forward(self, z: Tensor, context: Tensor) -> Tensor:
        """z [B, S, H, W], context [B, width, H, W] -> [B, 2 S, H, W]."""
        h = z
        for i, layer in enumerate(self.layers):
            h = F.conv2d(F.elu(h) if i else h, layer.weight * self.get_buffer(f"mask{i}"), layer.bias, padding=1)
            h = h if i else h + context
        return h


class Up(nn.Module):
    """One residual layer of the encoder: bottom-up features, and the posterior parameters of one layer of latents.

    Args:
        width: channels of the features.
        size: S, channels of the latents.
        last: whether it is the highest, which leaves the features as they are.
    """

    def __init__(self, width: int, size: int, *, last: bool = False) -> None:
        super().__init__()
        self.sizes = [0 if last else width, 2 * size + width]
        self.enter, self.leave = conv(width, sum(self.sizes)), None if last else conv(width, width)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """h [B, width, H, W] -> h of the next layer, and posterior parameters [B, 2 S + width, H, W]."""
        inner, params = self.enter(F.elu(h)).split(self.sizes, 1)
        return h if self.leave is None else h + 0.1 * self.leave(F.elu(inner)), params


class Down(nn.Module):
    """One residual layer of the decoder, with its latents [B, S, H, W]; arguments as in `Up`."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.size, self.sizes = size, [2 * size, 2 * size, width, width]
        self.enter, self.leave = conv(width, sum(self.sizes)), conv(width + size, width)
        self.step = MaskedConvs(size, width)

    def forward(self, h: Tensor, params: Tensor | None, eps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """h [B, width, H, W] of the next layer; the latents; log q(z | x) and log p(z) of each, all [B, S, H, W].

        Args:
            params: the encoder's for this layer, [B, 2 S + width, H, W]; None draws from the prior, and both densities are its own.
            eps: [B, S, H, W], standard normal.
        """
        prior, own, own_context, inner = self.enter(F.elu(h)).split(self.sizes, 1)
        mean, std = prior.chunk(2, 1)[0], prior.chunk(2, 1)[1].exp()
        log_eps = gaussian_log_prob(eps, eps.new_zeros(()), eps.new_ones(()))
        if params is None:
            z = mean + std * eps
            log_q = log_p = log_eps - std.log()
        else:
            gaussian, context = params.split([2 * self.size, self.sizes[2]], 1)
            centre, log_std = (gaussian + own).chunk(2, 1)
            scale, shift = gated(0.1 * self.step(z := centre + log_std.exp() * eps, own_context + context))
            z, log_q = z * scale.exp() + shift, log_eps - log_std - scale
            log_p = gaussian_log_prob(z, mean, std)
        return h + 0.1 * self.leave(F.elu(torch.cat([inner, z], 1))), z, log_q, log_p


class Encoder(nn.Module):
    """The bottom-up network: images -> posterior parameters for each layer of latents.

    Args:
        channels: of the images.
        scales, blocks, width, size: as in `ResNetVAE`.
    """

    def __init__(self, channels: int, scales: int, blocks: int, width: int, size: int) -> None:
        super().__init__()
        enter = [conv(channels if i == 0 else width, width, 5 if i == 0 else 3, 2) for i in range(scales)]
        self.enter = nn.ModuleList(enter)
        count = scales * blocks
        layers = [Up(width, size, last=i + 1 == count) for i in range(count)]
        self.blocks = nn.ModuleList(nn.ModuleList(layers[i : i + blocks]) for i in range(0, count, blocks))

    def forward(self, x: Tensor) -> list[Tensor]:
        """x [B, C, H, W] -> parameters [B, 2 S + width, h, w] of each layer, from the lowest to the highest."""
        h, found = x, []
        for enter, blocks in zip(self.enter, self.blocks, strict=True):
            h = enter(h)
            for block in blocks:
                h, params = block(h)
                found.append(params)
        return found


class Decoder(nn.Module):
    """The top-down network: latents of each layer, and the likelihood's parameters; arguments as in `Encoder`."""

    def __init__(self, channels: int, scales: int, blocks: int, width: int, size: int) -> None:
        super().__init__()
        self.top = nn.Parameter(torch.zeros(width, 1, 1))
        self.blocks = nn.ModuleList(nn.ModuleList(Down(width, size) for _ in range(blocks)) for _ in range(scales))
        self.leave = nn.ModuleList(conv(width, width) for _ in range(scales - 1))
        self.last = conv(width, 4 * channels)

    def forward(
        self, params: Sequence[Tensor] | None, eps: Sequence[Tensor]
    ) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        """The likelihood's parameters [B, C, H, W], and of each layer from the highest: latents, log q(z | x) and log p(z).

        Args:
            params: as the encoder returns them; None draws from the prior.
            eps: standard normal numbers for each layer, from the highest.
        """
        of_layers = iter(reversed(params)) if params is not None else iter([None] * len(eps))
        h, found = self.top.expand(len(eps[0]), -1, *eps[0].shape[2:]), []
        draws = iter(eps)
        for i, blocks in enumerate(self.blocks):
            if i:
                h = self.leave[i - 1](F.interpolate(h, scale_factor=2))
            for block in blocks:
                h, *rest = block(h, next(of_layers), next(draws))
                found.append(tuple(rest))
        return F.pixel_shuffle(self.last(F.elu(h)), 2), found


class ResNetVAE(VAE):
    """A VAE of images [B, C, H, W] of grey levels from -1 to 1, with H and W divisible by 2^scales.

    Args:
        shape: of an example.
        scales: of latents; the first is half as wide as the image, each other half the one before.
        blocks: layers of latents at each scale.
        width: channels.
        size: feature maps of latents in each layer.
        levels: of grey.
        free_bits: nats that the divergence of each feature map costs at least, over all its pixels.
        kl_annealing, optim: as in `VAE`.

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
        free_bits: float = 0.0,
        kl_annealing: int = 0,
        optim: Optim = Adam(),
    ) -> None:
        channels, high, wide = shape
        if high % 2**scales or wide % 2**scales:
            raise ValueError(f"Images of {high}x{wide} cannot be halved {scales} times; take fewer scales.")
        self.layers = [(size, high >> s + 1, wide >> s + 1) for s in reversed(range(scales)) for _ in range(blocks)]
        """Shape of each layer's latents, from the highest down."""
        parts = (channels, scales, blocks, width, size)
        latents = sum(c * h * w for c, h, w in self.layers)
        super().__init__(
            Encoder(*parts),
            Decoder(*parts),
            DiscretisedLogistic(levels),
            shape,
            latents,
            free_bits=free_bits,
            kl_annealing=kl_annealing,
            optim=optim,
        )

    def split_layers(self, eps: Tensor) -> list[Tensor]:
        """Cut [B, L] into the shapes of the layers, from the highest down."""
        parts = eps.split([c * h * w for c, h, w in self.layers], 1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, self.layers, strict=True)]

    def infer(self, params: Any, eps: Tensor) -> Inferred:
        """As in `VAE`; the divergence is estimated by the draw, in parts [B, layers * size], one for each feature map."""
        out, found = self.decoder(params, self.split_layers(eps))
        kl = torch.cat([(log_q - log_p).flatten(2).sum(2) for _, log_q, log_p in found], 1)
        return Inferred(out, kl, -kl.sum(1))

    def generate(self, eps: Tensor) -> Tensor:
        """As in `VAE`."""
        return self.decoder(None, self.split_layers(eps))[0]

    @torch.no_grad()
    def pictures(self, data: Any, rng: torch.Generator) -> dict[str, Tensor]:
        """Rows of eight held-out images, repeated where they are fewer than 32, over their reconstructions."""
        x = data.test(32)["x"].to(self.device)
        x = x[torch.arange(32) % len(x)]
        with evaluating(self):
            out = self.infer(self.encoder(x), normal_like(x.new_empty(len(x), self.latents), rng)).out
        pairs = torch.stack([x.unflatten(0, (-1, 8)), self.likelihood.mean(out).unflatten(0, (-1, 8))], 1)
        return {"reconstructions": pairs.flatten(0, 2)}
