"""Parts of the nets of games: bodies with a reference batch, critics with features, dense nets."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

Norm = Literal["none", "batch", "virtual"]


class VirtualBatchNorm(nn.Module):
    """Normalises each example of [N, C, *] by a reference batch and itself; the first `size` rows are the reference.

    Source: Salimans et al. 2016, arXiv:1606.03498, section 3.5.
    """

    def __init__(self, channels: int, size: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.size, self.eps = size, eps
        self.scale, self.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, h: Tensor) -> Tensor:
        flat = h.flatten(2) if h.ndim > 2 else h[:, :, None]
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
    """The normalisation of [B, channels, *]; `size` is that of the reference batch."""
    if kind == "virtual":
        return VirtualBatchNorm(channels, size)
    if kind == "batch":
        return nn.BatchNorm2d(channels) if images else nn.BatchNorm1d(channels)
    if kind != "none":
        raise ValueError(f"There is no normalisation '{kind}'; allowed: none, batch, virtual.")
    return nn.Identity()


class Body(nn.Module):
    """Layers [B, *D] -> [B, *E]; those with virtual batch norm see every batch behind a reference batch.

    Args:
        layers: the net.
        reference: [R, *D], fixed inputs; None where no layer asks for them.
    """

    def __init__(self, layers: nn.Module, reference: Tensor | None = None) -> None:
        super().__init__()
        self.layers = layers
        self.register_buffer("reference", reference)

    def forward(self, x: Tensor) -> Tensor:
        if self.reference is None:
            return self.layers(x)
        return self.layers(torch.cat([self.reference.to(x), x]))[len(self.reference) :]


class MinibatchDiscrimination(nn.Module):
    """Appends to features [B, F] how near each example is to the others of its batch, [B, F + kernels].

    Source: Salimans et al. 2016, arXiv:1606.03498, section 3.2.
    """

    def __init__(self, features: int, kernels: int, dims: int = 5) -> None:
        super().__init__()
        self.project = nn.Parameter(torch.randn(features, kernels, dims) / math.sqrt(features))

    def forward(self, h: Tensor) -> Tensor:
        m = torch.einsum("nf,fkd->knd", h, self.project)
        near = (-torch.cdist(m, m, p=1)).exp().sum(2)
        return torch.cat([h, near.T], 1)


class Critic(nn.Module):
    """Examples [B, *D] -> [B], by way of features [B, F].

    Args:
        body: examples -> [B, F] after flattening.
        features: F.
        kernels: of minibatch discrimination; 0: none.
    """

    def __init__(self, body: Body, features: int, kernels: int = 0) -> None:
        super().__init__()
        self.body = body
        self.near = MinibatchDiscrimination(features, kernels) if kernels else nn.Identity()
        self.leave = nn.Linear(features + kernels, 1)

    def features(self, x: Tensor) -> Tensor:
        """What feature matching compares, [B, F]."""
        return self.body(x).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.near(self.features(x)))[:, 0]


def dense(
    size: int, width: int, depth: int, kind: Norm, reference: int, act: Callable[[], nn.Module]
) -> list[nn.Module]:
    """Hidden layers [B, size] -> [B, width]."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Linear(width if i else size, width), norm(kind, width, reference, images=False), act()]
    return layers


def dense_generator(
    noise: int, shape: tuple[int, ...], *, width: int = 128, depth: int = 3, kind: Norm = "none", reference: int = 64
) -> Body:
    """A multilayer perceptron [B, noise] -> [B, *shape]."""
    layers = dense(noise, width, depth, kind, reference, nn.ReLU)
    layers += [nn.Linear(width, math.prod(shape)), nn.Unflatten(1, shape)]
    return Body(nn.Sequential(*layers), torch.randn(reference, noise) if kind == "virtual" else None)


def dense_critic(
    shape: tuple[int, ...],
    *,
    width: int = 128,
    depth: int = 3,
    kind: Norm = "none",
    kernels: int = 0,
    reference: int = 64,
) -> Critic:
    """A multilayer perceptron [B, *shape] -> [B]. A reference batch is zero until the model fills it with data."""
    layers = [nn.Flatten(), *dense(math.prod(shape), width, depth, kind, reference, lambda: nn.LeakyReLU(0.2))]
    body = Body(nn.Sequential(*layers), torch.zeros(reference, *shape) if kind == "virtual" else None)
    return Critic(body, width, kernels)
