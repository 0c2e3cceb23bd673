"""Small networks for reinforcement learning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parameters_to_vector

from ray_jobs.envs.spaces import picture
from ray_jobs.rl.fast.layers import RELU, TANH, fused

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def orthogonal(layer: Layer, gain: float) -> Layer:
    """The layer with orthogonal weights times `gain`, and no bias; a convolution's kernels are flattened for it.

    Source: Saxe et al. 2014, arXiv:1312.6120.
    """
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


@torch.no_grad()
def scale_rows(layer: nn.Linear, gains: float | Sequence[float]) -> nn.Linear:
    """The layer with each output's weights times its gain."""
    layer.weight.mul_(torch.as_tensor(gains).reshape(-1, 1))
    return layer


def mlp(sizes: Sequence[int], *, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """[*, sizes[0]] -> [*, sizes[-1]], as torch initialises it.

    Its biases are not 0: with biases of 0 all ReLU units bend at the origin, and DQN diverged on CartPole.
    """
    return nn.Sequential(*linear_layers(sizes, activation))


def linear_layers(sizes: Sequence[int], activation: type[nn.Module]) -> list[nn.Module]:
    """Linear layers with the activation between them."""
    layers: list[nn.Module] = []
    for width_in, width in pairwise(sizes[:-1]):
        layers += [nn.Linear(width_in, width), activation()]
    return [*layers, nn.Linear(sizes[-2], sizes[-1])]


class ReLUMLP(nn.Sequential):
    """`mlp` with ReLU as one autograd node (`fast.layers`). First derivatives only; its layers cannot be hooked."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__(*linear_layers(sizes, nn.ReLU))
        self.ordered = list(self.parameters())

    def forward(self, x: Tensor) -> Tensor:
        """[*, sizes[0]] -> [*, sizes[-1]]"""
        return fused(x, self.ordered, RELU)


def orthogonals(sizes: Sequence[int], last: float | Sequence[float]) -> list[nn.Linear]:
    """The linear layers of a tanh network: orthogonal weights of gain sqrt(2), those of the last of gain 1 times `last`."""
    gains = [2**0.5] * (len(sizes) - 2) + [1.0]
    layers = [orthogonal(nn.Linear(a, b), g) for (a, b), g in zip(pairwise(sizes), gains, strict=True)]
    scale_rows(layers[-1], last)
    return layers


def plain_tanh(sizes: Sequence[int], *, last: float | Sequence[float] = 1.0) -> nn.Sequential:
    """`mlp` with tanh and orthogonal weights, of torch's own layers: it can be differentiated twice (TRPO) and hooked (K-FAC)."""
    *hidden, end = orthogonals(sizes, last)
    return nn.Sequential(*(m for layer in hidden for m in (layer, nn.Tanh())), end)


class TanhMLP(nn.Module):
    """`plain_tanh` as one autograd node (`fast.layers`).

    First derivatives only: what differentiates twice (Fisher products) uses `plain_tanh`.
    """

    def __init__(self, sizes: Sequence[int], *, last: float | Sequence[float] = 1.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(orthogonals(sizes, last))
        self.ordered = list(self.parameters())

    def forward(self, x: Tensor) -> Tensor:
        """[*, sizes[0]] -> [*, sizes[-1]]"""
        return fused(x, self.ordered, TANH)


ATARI = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
"""Output channels, kernel and stride of each convolution: Mnih et al. 2015, doi:10.1038/nature14236, methods."""
MINATAR = ((16, 3, 1),)
"""As above: Young & Tian 2019, arXiv:1903.03176, section 3."""


class Convolutions(nn.Module):
    """Images [*, C, H, W] of 0..top -> features [*, n], with orthogonal weights.

    Where both sides are 36 pixels or more they are those of Mnih et al. 2015, else those of Young & Tian 2019.
    Differs: initial weights, for which neither source says orthogonal.

    Raises:
        ValueError: a side is shorter than 3 pixels.
    """

    def __init__(self, shape: Sequence[int], *, top: float = 255.0) -> None:
        super().__init__()
        channels, *sides = shape
        if min(sides) < 3:
            raise ValueError(
                f"Images of shape {tuple(shape)} are too small: (C, H, W) needs H and W of 3 pixels or more."
            )
        self.scale, self.layers = 1 / top, nn.Sequential()
        stack, self.hidden = (ATARI, 512) if min(sides) >= 36 else (MINATAR, 128)
        for width, kernel, stride in stack:
            self.layers.extend([orthogonal(nn.Conv2d(channels, width, kernel, stride), 2**0.5), nn.ReLU(inplace=True)])
            channels, sides = width, [(side - kernel) // stride + 1 for side in sides]
        self.layers.append(nn.Flatten())
        self.features = channels * sides[0] * sides[1]

    def forward(self, x: Tensor) -> Tensor:
        """Bytes, or floats of the same range."""
        return self.layers(x.reshape(-1, *x.shape[-3:]) * self.scale).reshape(*x.shape[:-3], -1)


class ConvNet(Convolutions):
    """Images [*, C, H, W] of 0..top -> [*, outputs]: convolutions, a hidden layer (of 512 or 128 units) and a linear one.

    Sources, Differs and Raises: as `Convolutions`.
    """

    def __init__(
        self, shape: Sequence[int], outputs: int, *, top: float = 255.0, last: float | Sequence[float] = 1.0
    ) -> None:
        super().__init__(shape, top=top)
        self.layers.extend([orthogonal(nn.Linear(self.features, self.hidden), 2**0.5), nn.ReLU(inplace=True)])
        self.layers.append(scale_rows(orthogonal(nn.Linear(self.hidden, outputs), 1.0), last))


class Dueling(nn.Module):
    """Values of actions as a value of the state plus advantages: V + A - mean of A over the actions.

    Source: Wang et al. 2016, arXiv:1511.06581, eq. 9; the gradient into the features is scaled by 1 / sqrt 2, as in section 4.2. With
    several outputs for each action the sum is of each output, as in Hessel et al. 2018, arXiv:1710.02298.

    Args:
        trunk: [*, O] -> features [*, n].
        hidden: units of the hidden layer in each of the two streams.
        outputs: of each action; all together are [*, actions * outputs], an action's side by side.
    """

    def __init__(self, trunk: nn.Module, features: int, hidden: int, actions: int, outputs: int = 1) -> None:
        super().__init__()
        self.trunk, self.outputs = trunk, outputs
        self.value = mlp([features, hidden, outputs])
        self.advantage = mlp([features, hidden, actions * outputs])

    def forward(self, x: Tensor) -> Tensor:
        """[*, O] -> [*, actions * outputs]"""
        features = self.trunk(x)
        share = 0.5**0.5
        features = share * features + (1 - share) * features.detach()
        value, advantage = self.value(features), self.advantage(features).unflatten(-1, (-1, self.outputs))
        return (value[..., None, :] + advantage - advantage.mean(-2, keepdim=True)).flatten(-2)


class Stack(nn.Module):
    """n networks as by `plain_tanh`, without common weights, one in each row of `theta` [n, P]; one batched product for each layer."""

    def __init__(self, n: int, sizes: Sequence[int], *, last: float = 1.0) -> None:
        super().__init__()
        self.theta = vectors([plain_tanh(sizes, last=last) for _ in range(n)])
        self.shapes = [(b, a) for a, b in pairwise(sizes)]

    def forward(self, x: Tensor, only: Tensor | None = None) -> Tensor:
        """[n, N, sizes[0]] -> [n, N, sizes[-1]]; the network `only` alone for n = 1."""
        theta = self.theta if only is None else self.theta[only][None]
        parts = theta.split([m for b, a in self.shapes for m in (a * b, b)], 1)
        for i, shape in enumerate(self.shapes):
            x = torch.baddbmm(parts[2 * i + 1][:, None], x, parts[2 * i].unflatten(1, shape).mT)
            x = x.tanh() if i + 1 < len(self.shapes) else x
        return x


class ConvStack(nn.Module):
    """n networks as by `ConvNet`, without common weights, one in each row of `theta` [n, P]; evaluated one after the other.

    Raises:
        ValueError: as `ConvNet`.
    """

    def __init__(self, n: int, shape: Sequence[int], outputs: int, *, top: float = 255.0, last: float = 1.0) -> None:
        super().__init__()
        nets = [ConvNet(shape, outputs, top=top, last=last) for _ in range(n)]
        self.theta = vectors(nets)
        self.one = (nets[0].to("meta"),)  # in a tuple, for its weights are not this module's

    def forward(self, x: Tensor, only: Tensor | None = None) -> Tensor:
        """Images [n, N, C, H, W] -> [n, N, outputs]; the network `only` alone for n = 1."""
        (net,), theta = self.one, self.theta if only is None else self.theta[only][None]
        sizes = {k: p.shape for k, p in net.named_parameters()}
        each = [row.split([size.numel() for size in sizes.values()]) for row in theta]
        weights = ({k: part.view(size) for (k, size), part in zip(sizes.items(), row, strict=True)} for row in each)
        return torch.stack([functional_call(net, w, (images,)) for w, images in zip(weights, x, strict=True)])


def vectors(nets: Sequence[nn.Module]) -> nn.Parameter:
    """Networks' parameters in order [n, P], a row for each."""
    return nn.Parameter(torch.stack([parameters_to_vector(net.parameters()).detach() for net in nets]))


def image(space: gym.spaces.Box) -> bool:
    """Whether observations are pictures, channels first, which go through convolutions."""
    return picture(space)


def brightest(space: gym.spaces.Box) -> float:
    """The largest size of a pixel, by which pictures are divided; 1 where they have no bounds."""
    top = float(max(abs(space.low.min()), abs(space.high.max())))
    return top if 0 < top < math.inf else 1.0
