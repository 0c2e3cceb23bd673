"""Parts of the networks of adversarial models: layers with a reference batch, discriminators with features, dense networks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

Norm = Literal["none", "batch", "virtual"]


class VirtualBatchNorm(nn.Module):
    """Normalise each example of [N, C, *] by a reference batch and by itself; the first `size` rows are the reference.

    Source: Salimans et al. 2016, arXiv:1606.03498, section 3.5.
    """

    def __init__(self, channels: int, size: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.size, self.eps = size, eps
        self.scale, self.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, h: Tensor) -> Tensor:
        """[N, C, *] -> [N, C, *]."""
        flat = h.flatten(2) if h.ndim > 2 else h[:, :, None]
        flat = (
            flat - flat[: self.size].mean((0, 2))[:, None]
        )  # far from 0, the mean square less the squared mean loses all digits
        first, second = flat.mean(2), flat.square().mean(2)
        common = [m[: self.size].mean(0) for m in (first, second)]
        mean, square = (
            torch.cat([c.expand(self.size, -1), (self.size * c + m[self.size :]) / (self.size + 1)])
            for m, c in zip((first, second), common, strict=True)
        )
        std = (square - mean.square()).clamp(min=0).add(self.eps).sqrt()
        gain = self.scale / std
        return (flat * gain[:, :, None] + (self.shift - mean * gain)[:, :, None]).reshape(h.shape)


def norm(kind: Norm, channels: int, size: int, *, images: bool) -> nn.Module:
    """The normalisation layer of [B, channels, *].

    Args:
        kind: 'none', 'batch' or 'virtual'.
        size: rows of the reference batch, for 'virtual'.
        images: whether the input is [B, channels, H, W].

    Raises:
        ValueError: there is no such kind.
    """
    if kind == "virtual":
        return VirtualBatchNorm(channels, size)
    if kind == "batch":
        return nn.BatchNorm2d(channels) if images else nn.BatchNorm1d(channels)
    if kind != "none":
        raise ValueError(f"There is no normalisation '{kind}'; allowed: none, batch, virtual.")
    return nn.Identity()


class Body(nn.Module):
    """Layers [B, *D] -> [B, *E]; those with virtual batch norm take every batch behind the reference batch.

    Args:
        layers: the network.
        reference: [R, *D], fixed inputs; None where no layer needs them.
    """

    def __init__(self, layers: nn.Module, reference: Tensor | None = None) -> None:
        super().__init__()
        self.layers = layers
        self.register_buffer("reference", reference)

    def forward(self, x: Tensor) -> Tensor:
        """[B, *D] -> [B, *E]."""
        if self.reference is None:
            return self.layers(x)
        return self.layers(torch.cat([self.reference.to(x), x]))[len(self.reference) :]


class MinibatchDiscrimination(nn.Module):
    """Append to features [B, F] how close each example is to the others of its batch, [B, F + kernels].

    Source: Salimans et al. 2016, arXiv:1606.03498, section 3.2.
    """

    def __init__(self, features: int, kernels: int, dims: int = 5) -> None:
        super().__init__()
        self.project = nn.Parameter(torch.randn(features, kernels, dims) / math.sqrt(features))

    def forward(self, h: Tensor) -> Tensor:
        """[B, F] -> [B, F + kernels]."""
        m = torch.einsum("nf,fkd->knd", h, self.project)
        closeness = (-torch.cdist(m, m, p=1)).exp().sum(2)
        return torch.cat([h, closeness.T], 1)


class Discriminator(nn.Module):
    """Examples [B, *D] -> [B], through features [B, F].

    Args:
        body: examples -> [B, F] after flattening.
        features: F.
        kernels: of minibatch discrimination; 0: none.
    """

    def __init__(self, body: Body, features: int, kernels: int = 0) -> None:
        super().__init__()
        self.body = body
        self.minibatch = MinibatchDiscrimination(features, kernels) if kernels else nn.Identity()
        self.head = nn.Linear(features + kernels, 1)

    def features(self, x: Tensor) -> Tensor:
        """The features [B, F] that feature matching compares."""
        return self.body(x).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, *D] -> [B]."""
        return self.head(self.minibatch(self.features(x)))[:, 0]


def dense(
    size: int, width: int, depth: int, kind: Norm, reference: int, act: Callable[[], nn.Module]
) -> list[nn.Module]:
    """Hidden layers [B, size] -> [B, width]: `depth` linear layers, each with a normalisation of a `kind` and an activation."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Linear(width if i else size, width), norm(kind, width, reference, images=False), act()]
    return layers


def dense_generator(
    latents: int, shape: tuple[int, ...], *, width: int = 128, depth: int = 3, kind: Norm = "none", reference: int = 64
) -> Body:
    """A multilayer perceptron [B, latents] -> [B, *shape].

    Args:
        width, depth: units and number of hidden layers.
        kind: normalisation of the hidden layers.
        reference: rows of the reference batch, for virtual batch norm.
    """
    layers = dense(latents, width, depth, kind, reference, nn.ReLU)
    layers += [nn.Linear(width, math.prod(shape)), nn.Unflatten(1, shape)]
    return Body(nn.Sequential(*layers), torch.randn(reference, latents) if kind == "virtual" else None)


def dense_discriminator(
    shape: tuple[int, ...],
    *,
    width: int = 128,
    depth: int = 3,
    kind: Norm = "none",
    kernels: int = 0,
    reference: int = 64,
) -> Discriminator:
    """A multilayer perceptron [B, *shape] -> [B]. A reference batch is zero until the model fills it with data.

    Args:
        width, depth, kind, reference: as in `dense_generator`.
        kernels: of minibatch discrimination; 0: none.
    """
    layers = [nn.Flatten(), *dense(math.prod(shape), width, depth, kind, reference, lambda: nn.LeakyReLU(0.2))]
    body = Body(nn.Sequential(*layers), torch.zeros(reference, *shape) if kind == "virtual" else None)
    return Discriminator(body, width, kernels)
