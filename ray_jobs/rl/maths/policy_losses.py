"""Policy losses: pure functions of tensors, of any common shape, to be averaged by the caller unless said otherwise."""

from __future__ import annotations

import torch
from torch import Tensor


def clipped(logp: Tensor, old: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """PPO's pessimistic surrogate, negated, from log-probabilities now and of the policy that acted. Gradients reach `logp` alone.

    Source: Schulman et al. 2017, arXiv:1707.06347, eq. 7.
    """
    ratio, advantage = (logp - old.detach()).exp(), advantage.detach()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def surrogate(logp: Tensor, old: Tensor, advantage: Tensor) -> Tensor:
    """The importance-weighted advantage, negated, which a trust region keeps honest; gradients reach `logp` alone.

    Source: Schulman et al. 2015, arXiv:1502.05477, eq. 14.
    """
    return -(logp - old.detach()).exp() * advantage.detach()


def kl_penalty(logp: Tensor, old: Tensor, advantage: Tensor, kl: Tensor, beta: Tensor | float) -> Tensor:
    """PPO's penalised surrogate, negated. `kl` is KL(old || new) of each state, and is differentiated; `beta` is its weight.

    Source: Schulman et al. 2017, arXiv:1707.06347, eq. 8.
    """
    return torch.add(surrogate(logp, old, advantage), kl * beta)


def adapted(beta: Tensor, kl: Tensor, target: float) -> Tensor:
    """The weight of the KL for the next update: twice where the mean KL was above 1.5 targets, half where below a target / 1.5.

    Source: Schulman et al. 2017, arXiv:1707.06347, section 4.
    """
    return torch.where(kl > 1.5 * target, 2 * beta, torch.where(kl < target / 1.5, beta / 2, beta))


def policy_gradient(logp: Tensor, advantage: Tensor) -> Tensor:
    """Its gradient is the policy gradient's integrand; no gradient flows through the advantage.

    Source: Williams 1992, doi:10.1007/BF00992696, eq. 4.
    """
    return -logp * advantage.detach()


def deterministic(q: Tensor) -> Tensor:
    """-Q(s, mu(s)); its gradient by the action's parameters is the deterministic policy gradient's integrand, negated.

    Source: Silver et al. 2014, Deterministic policy gradient algorithms, eq. 9; Lillicrap et al. 2016, arXiv:1509.02971, eq. 6.
    """
    return -q


def soft(logp: Tensor, q: Tensor, alpha: Tensor | float) -> Tensor:
    """alpha log pi(a | s) - Q(s, a) of an action drawn by reparametrisation; gradients reach `logp` and `q`, never `alpha`.

    Source: Haarnoja et al. 2018, arXiv:1812.05905, eq. 7 and 9.
    """
    return (alpha.detach() if isinstance(alpha, Tensor) else alpha) * logp - q


def temperature(log_alpha: Tensor, logp: Tensor, target_entropy: float) -> Tensor:
    """A loss of alpha, which it raises where the entropy, -logp on average, is below its target in nats, and lowers where above.

    Gradients reach `log_alpha` alone.

    Source: Haarnoja et al. 2018, arXiv:1812.05905, eq. 18.
    Differs: by the logarithm of alpha, which keeps it positive.
    """
    return -log_alpha.exp() * (logp.detach() + target_entropy)


def truncated_importance(
    logp: Tensor, behaviour: Tensor, action: Tensor, target: Tensor, q: Tensor, value: Tensor, c: float
) -> Tensor:
    """ACER's loss: its gradient by `logp` is minus that of equation 9, and reaches nothing else. [*]

    Args:
        logp: log pi(. | x) of all actions, [*, A].
        behaviour: log mu(. | x) of the policy that acted, [*, A].
        action: what it did, [*].
        target: an estimate of Q(x, a) for that action, as Retrace's, [*].
        q: the critic's Q(x, .), [*, A].
        value: V(x), the baseline, [*].
        c: where importance weights are cut; what is cut off comes back as an expectation under pi, so that any c is unbiased.

    Source: Wang et al. 2017, arXiv:1611.01224, eq. 7 to 9.
    """
    with torch.no_grad():
        ratio = (logp - behaviour).exp()
        weights = logp.exp() * (1 - c / ratio).clamp_(min=0) * (q - value[..., None])
        taken = ratio.gather(-1, action[..., None]).clamp_(max=c) * (target - value)[..., None]
        weights.scatter_add_(-1, action[..., None], taken)
    return -(weights * logp).sum(-1)


def trust_region(g: Tensor, k: Tensor, delta: float) -> Tensor:
    """The vector nearest to g of those z with k.z <= delta; all [*, P], each row by itself.

    With k the gradient of KL(average policy || policy) by the policy's statistics, this is ACER's cure for large steps.

    Source: Wang et al. 2017, arXiv:1611.01224, eq. 11 and 12.
    """
    square = k.square().sum(-1, keepdim=True).clamp_(min=torch.finfo(k.dtype).tiny)  # k = 0 restricts nothing
    return g - ((k * g).sum(-1, keepdim=True) - delta).clamp_(min=0) / square * k


def kl_estimate(logratio: Tensor) -> Tensor:
    """An unbiased and never negative estimate of KL(old || new) per sample; `logratio` is log new - log old.

    Source: Schulman 2020, 'Approximating KL divergence' (joschu.net), k3.
    """
    return torch.expm1(logratio) - logratio
