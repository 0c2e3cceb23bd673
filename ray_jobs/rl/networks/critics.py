"""Critics of state and action, and their slow copies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import gymnasium as gym
import torch
from torch import Tensor, nn

from ray_jobs.rl.fast.layers import RELU, fused
from ray_jobs.rl.fast.lookahead import evaluate
from ray_jobs.rl.fast.vmapped import unwrap
from ray_jobs.rl.networks.nets import ConvNet, brightest, image
from ray_jobs.rl.networks.policies import Units


def uniform_parameter(*shape: int, fan: int) -> nn.Parameter:
    """Uniform between +-1 / sqrt(fan), as nn.Linear with `fan` inputs initialises its weights and its biases."""
    return nn.Parameter(torch.empty(shape).uniform_(-(fan**-0.5), fan**-0.5))


class Ensemble(nn.Module):
    """n ReLU networks of the same sizes without common weights, evaluated in one batched product for each layer.

    First derivatives only.

    Args:
        n: members.
        sizes: of the layers; the first is of an observation and an action side by side, the last is the outputs of one member: 1 for a
            value, or the actions, atoms or quantiles.
        units: of the Box of the actions, in which the networks see them; their own without.
    """

    def __init__(self, n: int, sizes: Sequence[int], units: Units | None = None) -> None:
        super().__init__()
        self.n, self.single, self.units = n, sizes[-1] == 1, units
        self.weights = nn.ParameterList(uniform_parameter(n, a, b, fan=a) for a, b in pairwise(sizes))
        self.biases = nn.ParameterList(uniform_parameter(n, 1, b, fan=a) for a, b in pairwise(sizes))
        self.ordered = [p for pair in zip(self.weights, self.biases, strict=True) for p in pair]

    def forward(
        self, obs: Tensor, action: Tensor | None = None, *, frozen: bool = False, first: int | None = None
    ) -> Tensor:
        """Q(obs [N, *O], action [N, *A]), or Q(obs) without an action: [n, N], or [n, N, sizes[-1]].

        Args:
            frozen: gradients reach the inputs alone.
            first: only the first so many members.
        """
        x = obs.flatten(1) if obs.is_floating_point() else obs.flatten(1).float()
        if action is not None:
            x = torch.cat([x, self.units.inverse(action.flatten(1)) if self.units else action.flatten(1)], 1)
        out = self.each(x.expand(first or self.n, -1, -1), frozen=frozen, first=first)
        return out.squeeze(-1) if self.single else out

    def each(self, x: Tensor, *, frozen: bool = False, first: int | None = None) -> Tensor:
        """The output of every member for inputs of its own: x [n, N, sizes[0]] -> [n, N, sizes[-1]]."""
        parameters = [p.detach() for p in self.ordered] if frozen else self.ordered
        parameters = parameters if first is None else [p[:first] for p in parameters]
        return fused(x, parameters, RELU, as_layers)


class PictureCritics(nn.Module):
    """Critics that share the convolutions which turn pictures into features; called as an `Ensemble` is.

    Source: Yarats et al. 2021, arXiv:2004.13649, appendix B: the encoder learns from the critics' loss.
    Differs: the actor has convolutions of its own, as in Lillicrap et al. 2016, arXiv:1509.02971, section 7; features are linear.
    """

    def __init__(self, encoder: nn.Module, heads: Ensemble) -> None:
        super().__init__()
        self.encoder, self.heads = encoder, heads

    def forward(
        self, obs: Tensor, action: Tensor | None = None, *, frozen: bool = False, first: int | None = None
    ) -> Tensor:
        """As `Ensemble`, for pictures [N, C, H, W]."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            features = self.encoder(obs)
        return self.heads(features, action, frozen=frozen, first=first)


def critics_of(
    n: int, obs: gym.spaces.Box, *, width: int, actions: int = 0, outputs: int = 1, units: Units | None = None
) -> Ensemble | PictureCritics:
    """n critics of observations, and of actions with so many dimensions; pictures go through convolutions first.

    Args:
        width: units in each of two hidden layers, and features of a picture.
        outputs: of each critic.
        units: as `Ensemble`.
    """
    if image(obs):
        encoder = ConvNet(obs.shape, width, top=brightest(obs))
        return PictureCritics(encoder, Ensemble(n, [width + actions, width, width, outputs], units))
    return Ensemble(n, [math.prod(obs.shape) + actions, width, width, outputs], units)


def as_layers(parameters: Sequence[Tensor]) -> list[Tensor]:
    """Weights [n, in, out] and biases [n, 1, out], or all seeds' [S, n, ...], as views [n, out, in], [n, out] or [S n, ...]."""
    rows = [p.flatten(0, -3) for p in parameters]
    return [p.squeeze(1) if i % 2 else p.mT for i, p in enumerate(rows)]


@torch.no_grad()
def polyak(target: Iterable[Tensor], online: Iterable[Tensor], tau: float) -> None:
    """Move the target's tensors to the online ones' by the share tau of what is between them, in place.

    Source: Lillicrap et al. 2016, arXiv:1509.02971, algorithm 1.
    """
    torch._foreach_lerp_([unwrap(x) for x in target], [unwrap(x) for x in online], tau)


@torch.no_grad()
def overwrite(target: Iterable[Tensor], online: Iterable[Tensor]) -> None:
    """Copy the online tensors into the target's."""
    torch._foreach_copy_([unwrap(x) for x in target], [unwrap(x) for x in online])


def slow_q(target: nn.Module, obs: Tensor, rests: int) -> Tensor:
    """The target network's Q(obs), without gradients.

    Args:
        rests: updates, this one included, until the network is overwritten.
    """
    return evaluate(target, obs, rests)
