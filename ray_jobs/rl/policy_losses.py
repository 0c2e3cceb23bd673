"""Policy losses: pure functions of tensors, of any common shape, to be averaged by the caller unless said otherwise."""

from __future__ import annotations

import torch
from torch import Tensor


def clipped(logp: Tensor, old: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """PPO's pessimistic surrogate, negated, from log-probabilities now and of the policy that acted. Gradients reach `logp` alone.

    Source: Schulman et al. 2017, arXiv:1707.06347, eq. 7.
    """
    with torch.no_grad():
        ratio = (logp - old).exp_()
        gain, bound = ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage
        slope = gain * (gain <= bound)  # d gain / d logp where the unclipped side is the smaller one, else 0
    # The right value with the right derivative, in two nodes of the graph where the formula itself has eight.
    return torch.addcmul(-torch.minimum(gain, bound), slope, logp - logp.detach(), value=-1)


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
