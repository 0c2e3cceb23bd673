"""Value losses: pure functions of tensors, of any common shape, to be averaged by the caller."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def squared(value: Tensor, target: Tensor) -> Tensor:
    """(value - target)^2; no gradient flows through the target."""
    return F.mse_loss(value, target.detach(), reduction="none")


def clipped(value: Tensor, target: Tensor, old: Tensor, clip: float) -> Tensor:
    """The worse of the squared errors of the value and of the value kept within `clip` of the old one.

    Source: Schulman et al., OpenAI baselines' ppo2; Engstrom et al. 2020, arXiv:2005.12729, section 3.
    """
    near = old + (value - old).clamp(-clip, clip)
    return torch.maximum(squared(value, target), squared(near, target))


def huber(value: Tensor, target: Tensor, width: float = 1.0) -> Tensor:
    """Quadratic within `width` of the target, linear beyond.

    Source: Huber 1964; as error clipping in Mnih et al. 2015, doi:10.1038/nature14236, methods.
    """
    return F.huber_loss(value, target.detach(), reduction="none", delta=width)


def q_target(reward: Tensor, discount: Tensor, next_q: Tensor, chooser: Tensor | None = None) -> Tensor:
    """r + discount * max_a Q(s', a), or the value at the action that `chooser` prefers. Q [N, A]; the rest and the result [N].

    Source: Mnih et al. 2015, doi:10.1038/nature14236, algorithm 1; van Hasselt et al. 2016, arXiv:1509.06461, eq. 4.
    """
    best = (next_q if chooser is None else chooser).argmax(-1, keepdim=True)
    return reward + discount * next_q.gather(-1, best).squeeze(-1)
