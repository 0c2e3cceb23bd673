"""What a network's outputs say about the return of each action: its mean, a probability of each of some returns, or its quantiles.

Each kind has `size`, the outputs of one action; `mean`, the action's value; and `regress`, the loss that draws the outputs of the chosen
action to reward + discount * what the target network says of the next state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ray_jobs.rl.contract import Transitions
from ray_jobs.rl.maths.value_losses import categorical, project, q_target, quantile_huber
from ray_jobs.rl.networks.regression import huber_of_chosen


class Regression(NamedTuple):
    """A regression on N transitions."""

    loss: Tensor
    """[], weighted and averaged."""
    q: Tensor
    """Values of the chosen actions, [N], without a gradient."""
    error: Tensor
    """What transitions are prioritised by, [N], without a gradient."""


class Returns(Protocol):
    """What outputs [N, A * size] say about returns."""

    size: Any

    def mean(self, out: Tensor) -> Tensor:
        """Outputs [N, A * size] -> values [N, A]."""
        ...

    def regress(self, out: Tensor, data: Transitions, after: Tensor, chooser: Tensor | None) -> Regression:
        """The loss of outputs [N, A * size].

        Args:
            after: the target network's outputs at the next observations, [N, A * size].
            chooser: values [N, A] by which the next action is chosen; None: by the target network's own.
        """
        ...


@dataclass(frozen=True)
class Means:
    """One output: the mean return. Huber's loss, linear beyond `width`.

    Source: Mnih et al. 2015, doi:10.1038/nature14236, algorithm 1.
    """

    width: float
    size: int = 1

    def mean(self, out: Tensor) -> Tensor:
        """[N, A] -> [N, A]"""
        return out

    def regress(self, out: Tensor, data: Transitions, after: Tensor, chooser: Tensor | None) -> Regression:
        """As `Returns`; the error is the size of the Bellman error."""
        target = q_target(data.reward, data.discount, after, chooser)
        loss, q = huber_of_chosen(out, data.action, target, data.weight, self.width)
        return Regression(loss, q, (q - target).abs())


@dataclass(frozen=True)
class Atoms:
    """A logit for each of `size` returns, evenly spaced from low to high. The loss is the cross entropy from the projected target.

    Source: Bellemare et al. 2017, arXiv:1707.06887, algorithm 1.
    """

    size: int
    low: float
    high: float

    def support(self, like: Tensor) -> Tensor:
        """The returns, [size]."""
        return torch.linspace(self.low, self.high, self.size, dtype=like.dtype, device=like.device)

    def mean(self, out: Tensor) -> Tensor:
        """[N, A * size] -> [N, A]"""
        return out.unflatten(-1, (-1, self.size)).softmax(-1) @ self.support(out)

    def regress(self, out: Tensor, data: Transitions, after: Tensor, chooser: Tensor | None) -> Regression:
        """As `Returns`; the error is the cross entropy, as in Hessel et al. 2018, arXiv:1710.02298."""
        logits = chosen(out, data.action, self.size)
        best = (self.mean(after) if chooser is None else chooser).argmax(-1)
        probs = chosen(after, best, self.size).softmax(-1)
        error = categorical(logits, project(probs, data.reward, data.discount, self.support(out)))
        q = logits.detach().softmax(-1) @ self.support(out)
        return Regression((data.weight * error).mean(-1), q, error.detach())


@dataclass(frozen=True)
class Quantiles:
    """`size` quantiles at the midpoints (2i - 1) / 2 size. The loss is their Huber regression, quadratic within `kappa`.

    Source: Dabney et al. 2018, arXiv:1710.10044, algorithm 1.
    """

    size: int
    kappa: float

    def mean(self, out: Tensor) -> Tensor:
        """[N, A * size] -> [N, A]"""
        return out.unflatten(-1, (-1, self.size)).mean(-1)

    def regress(self, out: Tensor, data: Transitions, after: Tensor, chooser: Tensor | None) -> Regression:
        """As `Returns`; the error is the loss of the transition."""
        quantiles = chosen(out, data.action, self.size)
        best = (self.mean(after) if chooser is None else chooser).argmax(-1)
        target = data.reward[:, None] + data.discount[:, None] * chosen(after, best, self.size)
        error = quantile_huber(quantiles, target, self.kappa)
        return Regression((data.weight * error).mean(-1), quantiles.detach().mean(-1), error.detach())


def chosen(out: Tensor, action: Tensor, size: int) -> Tensor:
    """The outputs [N, size] of the actions [N], of those of all actions [N, A * size]."""
    each = out.unflatten(-1, (-1, size))
    return each.gather(-2, action[:, None, None].expand(-1, 1, size)).squeeze(-2)
