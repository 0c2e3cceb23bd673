"""Networks of self-play, with a policy and a value, and their weights as arrays.

Source: Silver et al. 2017, doi:10.1038/nature24270, methods (neural network architecture).
Differs: for small boards the trunk may be a perceptron with residual blocks whose weight starts at 0 (ReZero: Bachlechner et al. 2020,
arXiv:2003.04887). Both heads start at 0, so that an untrained network knows nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ray_jobs.self_play.games.game import Game, States
from ray_jobs.self_play.search import Array


class Weights(NamedTuple):
    """The weights of a network."""

    parameters: NDArray[np.float32]
    """All parameters as one vector [P]."""
    buffers: NDArray[np.float32]
    """Means and variances of batch norms [Q]."""


class PolicyValue(nn.Module):
    """Observations [B, planes, rows, columns] -> logits of moves [B, moves] and values [B] in [-1, 1] for the player to move."""

    def __init__(self, trunk: nn.Module, policy: nn.Module, value: nn.Module) -> None:
        super().__init__()
        self.trunk, self.policy, self.value = trunk, policy, value
        for head in (policy, value):
            last = [m for m in head.modules() if isinstance(m, nn.Linear)][-1]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        x = self.trunk(observations)
        return self.policy(x), self.value(x).squeeze(1).tanh()


class ReZero(nn.Module):
    """x + w relu(A x): the weight w starts at 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear, self.weight = nn.Linear(width, width), nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight * self.linear(x).relu()


def perceptron(game: Game[Any], width: int, blocks: int) -> PolicyValue:
    """A layer of `width` units, residual blocks, and two linear heads."""
    first = nn.Linear(game.planes * game.rows * game.columns, width)
    trunk = nn.Sequential(nn.Flatten(), first, nn.ReLU(), *(ReZero(width) for _ in range(blocks)))
    return PolicyValue(trunk, nn.Linear(width, game.moves), nn.Linear(width, 1))


class ResidualConvolutions(nn.Module):
    """relu(x + F x) with two convolutions of 3 x 3, each with a batch norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = normed(width, width, 3), normed(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.second(self.first(x).relu())).relu()


def normed(inputs: int, outputs: int, size: int) -> nn.Sequential:
    """A convolution that keeps the board's size, and a batch norm."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False), nn.BatchNorm2d(outputs))


def convolutional(game: Game[Any], width: int, blocks: int) -> PolicyValue:
    """The paper's tower of `width` filters with so many residual blocks; its heads have 2 filters, and 1 filter and 256 units.

    Source: Silver et al. 2017, methods (neural network architecture).
    """
    cells = game.rows * game.columns
    tower = (ResidualConvolutions(width) for _ in range(blocks))
    trunk = nn.Sequential(normed(game.planes, width, 3), nn.ReLU(), *tower)
    policy = nn.Sequential(normed(width, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(2 * cells, game.moves))
    value = nn.Sequential(
        normed(width, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(cells, 256), nn.ReLU(), nn.Linear(256, 1)
    )
    return PolicyValue(trunk, policy, value)


def begin(game: Game[Any], width: int, blocks: int, convolutions: bool, seed: int) -> PolicyValue:
    """The untrained network, a function of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return (convolutional if convolutions else perceptron)(game, width, blocks)


def statistics(net: nn.Module) -> list[Tensor]:
    """The means and variances of the network's batch norms, in order."""
    return [b for b in net.buffers() if b.is_floating_point()]


def weights_of(net: nn.Module) -> Weights:
    """The network's weights as vectors, which share no memory with it."""
    empty = torch.zeros(0)
    parameters, buffers = ([x.detach().flatten() for x in xs] for xs in (net.parameters(), statistics(net)))
    return Weights(torch.cat([empty, *parameters]).numpy(), torch.cat([empty, *buffers]).numpy())


@torch.no_grad()
def load(net: nn.Module, weights: Weights) -> None:
    """Write weights into a network of the same shape."""
    for tensors, vector in ((list(net.parameters()), weights.parameters), (statistics(net), weights.buffers)):
        parts = torch.from_numpy(vector).split([t.numel() for t in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


@dataclass(frozen=True)
class Evaluator:
    """A network as `search.Evaluate`, with its batch norms' running statistics. It can be pickled."""

    game: Game[Any]
    net: PolicyValue

    @torch.inference_mode()
    def __call__(self, states: States) -> tuple[Array, Array]:
        with one_thread():
            logits, value = self.net.eval()(torch.from_numpy(self.game.observe(states)).float())
        return logits.double().numpy(), value.double().numpy()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread: the order of sums, and so the bits, would depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
