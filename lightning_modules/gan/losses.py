"""What the two players of a game minimise, as pure functions of the critic's outputs [B] (logits, where it classifies)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def real_loss(logits: Tensor, label: float = 1.0) -> Tensor:
    """Cross-entropy [] of real examples; a `label` below 1 smooths one side alone.

    Source: Goodfellow et al. 2014, arXiv:1406.2661, eq. 1; Salimans et al. 2016, arXiv:1606.03498, section 3.4.
    """
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def fake_loss(logits: Tensor) -> Tensor:
    """Cross-entropy [] of generated examples, -E log(1 - D)."""
    return F.softplus(logits).mean()


def minimax(fake: Tensor) -> Tensor:
    """The generator's E log(1 - D): what the critic maximises. Source: arXiv:1406.2661, eq. 1."""
    return -F.softplus(fake).mean()


def non_saturating(fake: Tensor) -> Tensor:
    """The generator's -E log D, whose gradient does not vanish where D is sure. Source: arXiv:1406.2661, section 3."""
    return F.softplus(-fake).mean()


def wasserstein(real: Tensor, fake: Tensor) -> Tensor:
    """The critic's E f(fake) - E f(real); minus it is at most the W1 distance if f is 1-Lipschitz.

    Source: Arjovsky et al. 2017, arXiv:1701.07875, eq. 2.
    """
    return fake.mean() - real.mean()


def path_norms(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, even: Tensor) -> Tensor:
    """Norms [B] of the critic's gradient at points between pairs of examples, differentiable.

    Args:
        even: [B], share of the real one, uniform in [0, 1).
    """
    share = even.reshape(-1, *[1] * (real.ndim - 1))
    between = (share * real + (1 - share) * fake).detach().requires_grad_()
    with torch.enable_grad():
        slope = torch.autograd.grad(critic(between).sum(), between, create_graph=True)[0]
    return slope.flatten(1).norm(dim=1)


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, even: Tensor) -> Tensor:
    """E (|grad f| - 1)^2 [] between pairs of examples. Source: Gulrajani et al. 2017, arXiv:1704.00028, eq. 3."""
    return (path_norms(critic, real, fake, even) - 1).square().mean()


def feature_matching(real: Tensor, fake: Tensor) -> Tensor:
    """Squared distance [] of the mean features of [B, F] and [B, F]. Source: arXiv:1606.03498, section 3.1."""
    return (real.mean(0) - fake.mean(0)).square().sum()


def historical(weights: Tensor, mean: Tensor) -> Tensor:
    """Squared distance [] of weights [P] to their mean over the past. Source: arXiv:1606.03498, section 3.3."""
    return (weights - mean).square().sum()
