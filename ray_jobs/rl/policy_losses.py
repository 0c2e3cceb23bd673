"""Policy losses: pure functions of tensors, of any common shape, to be averaged by the caller unless said otherwise."""

from __future__ import annotations

import torch
from torch import Tensor


def clipped(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """PPO's pessimistic surrogate, negated; `ratio` is new over old probability.

    Source: Schulman et al. 2017, arXiv:1707.06347, eq. 7.
    """
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def policy_gradient(logp: Tensor, advantage: Tensor) -> Tensor:
    """Its gradient is the policy gradient's integrand; no gradient flows through the advantage.

    Source: Williams 1992, doi:10.1007/BF00992696, eq. 4.
    """
    return -logp * advantage.detach()


def kl_estimate(logratio: Tensor) -> Tensor:
    """An unbiased and never negative estimate of KL(old || new) per sample; `logratio` is log new - log old.

    Source: Schulman 2020, 'Approximating KL divergence' (joschu.net), k3.
    """
    return torch.expm1(logratio) - logratio
