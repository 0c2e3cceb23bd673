"""Losses of the discriminator and of the generator: pure functions of the discriminator's outputs [B] (logits, where it classifies)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def real_loss(logits: Tensor, label: float = 1.0) -> Tensor:
    """Cross-entropy [] of real examples' logits [B]: -E log D for `label` 1; below 1 it is smoothed on the real side alone.

    Source: Goodfellow et al. 2014, arXiv:1406.2661, eq. 1; Salimans et al. 2016, arXiv:1606.03498, section 3.4.
    """
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def fake_loss(logits: Tensor) -> Tensor:
    """Cross-entropy [] of generated examples' logits [B]: -E log(1 - D). Source: arXiv:1406.2661, eq. 1."""
    return F.softplus(logits).mean()


def minimax(logits: Tensor) -> Tensor:
    """The generator's E log(1 - D) [] of generated examples' logits [B], which the discriminator maximises.

    Source: arXiv:1406.2661, eq. 1.
    """
    return -F.softplus(logits).mean()


def non_saturating(logits: Tensor) -> Tensor:
    """The generator's -E log D [] of generated examples' logits [B]; its gradient does not vanish where D is sure.

    Source: arXiv:1406.2661, section 3.
    """
    return F.softplus(-logits).mean()


def wasserstein(real: Tensor, fake: Tensor) -> Tensor:
    """The critic's E f(fake) - E f(real) [], of outputs [B] and [B]; minus it is at most the W1 distance if f is 1-Lipschitz.

    Source: Arjovsky et al. 2017, arXiv:1701.07875, eq. 2.
    """
    return fake.mean() - real.mean()


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's (E max(0, 1 - f(real)) + E max(0, 1 + f(fake))) / 2 [], of outputs of any shape.

    Source: Lim & Ye 2017, arXiv:1705.02894; halved as in the code of Esser et al. 2021, arXiv:2012.09841.
    """
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def gradient_norms(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, uniform: Tensor) -> Tensor:
    """Norms [B] of the critic's gradient at points between pairs of real and generated examples [B, *D], differentiable.

    Args:
        uniform: [B], the share of the real example in each point, uniform in [0, 1).
    """
    share = uniform.reshape(-1, *[1] * (real.ndim - 1))
    between = (share * real + (1 - share) * fake).detach().requires_grad_()
    with torch.enable_grad():
        slope = torch.autograd.grad(critic(between).sum(), between, create_graph=True)[0]
    return slope.flatten(1).norm(dim=1)


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, uniform: Tensor) -> Tensor:
    """E (|grad f| - 1)^2 [] between pairs of examples, as in `gradient_norms`. Source: Gulrajani et al. 2017, arXiv:1704.00028, eq. 3."""
    return (gradient_norms(critic, real, fake, uniform) - 1).square().mean()


def feature_matching(real: Tensor, fake: Tensor) -> Tensor:
    """Squared distance [] of the mean features of [B, F] and [B, F]. Source: arXiv:1606.03498, section 3.1."""
    return (real.mean(0) - fake.mean(0)).square().sum()


def historical(weights: Tensor, mean: Tensor) -> Tensor:
    """Squared distance [] of weights [P] to their mean [P] over the past. Source: arXiv:1606.03498, section 3.3."""
    return (weights - mean).square().sum()
