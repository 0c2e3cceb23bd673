"""Value losses: pure functions of tensors, of any common shape, to be averaged by the caller."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ray_jobs.rl.maths import draws


def squared(value: Tensor, target: Tensor) -> Tensor:
    """(value - target)^2; no gradient flows through the target."""
    return (value - target.detach()).square()


def clipped(value: Tensor, target: Tensor, old: Tensor, clip: float) -> Tensor:
    """The worse of the squared errors of the value and of the value kept within `clip` of the old one; with clip = 0, `squared`.

    Source: Schulman et al., OpenAI baselines' ppo2; Engstrom et al. 2020, arXiv:2005.12729, section 3.
    """
    if not clip:
        return squared(value, target)
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
    if chooser is None:
        best = next_q.amax(-1)
    else:
        best = next_q.gather(-1, chooser.argmax(-1, keepdim=True)).squeeze(-1)
    return torch.addcmul(reward, discount, best)


def twin_target(reward: Tensor, discount: Tensor, next_q: Tensor) -> Tensor:
    """r + discount * the least of several critics' Q(s', a'). Q [critics, N]; the rest and the result [N].

    Source: Fujimoto et al. 2018, arXiv:1802.09477, eq. 10.
    """
    return torch.addcmul(reward, discount, next_q.amin(0))


def soft_value(next_q: Tensor, next_logp: Tensor, alpha: Tensor | float) -> Tensor:
    """V(s') = E[min_i Q_i(s', a') - alpha log pi(a' | s')] under the policy, [N].

    Args:
        next_q: [critics, N] of one action drawn from the policy; or [critics, N, A] of all A actions.
        next_logp: log pi of the same actions, [N] or [N, A]. With all actions the expectation is exact.
        alpha: weight of a nat of entropy.

    Source: Haarnoja et al. 2018, arXiv:1812.05905, eq. 3, with section 5's least of two critics; all actions: Christodoulou 2019,
    arXiv:1910.07207, eq. 10.
    """
    return expected(next_q.amin(0) - alpha * next_logp, next_logp)


def expected(x: Tensor, logp: Tensor) -> Tensor:
    """E[x] [N] under a policy, from x [N] of one action drawn from it, or in closed form from x [N, A] and log pi [N, A] of all actions."""
    return (logp.exp() * x).sum(-1) if x.dim() > 1 else x


def soft_target(reward: Tensor, discount: Tensor, next_q: Tensor, next_logp: Tensor, alpha: Tensor | float) -> Tensor:
    """r + discount * V(s') with `soft_value`: next_q [critics, N] or [critics, N, A], next_logp [N] or [N, A]; the rest and the result [N].

    Source: Haarnoja et al. 2018, arXiv:1812.05905, eq. 3 and 5.
    """
    return torch.addcmul(reward, discount, soft_value(next_q, next_logp, alpha))


def smoothed(
    action: Tensor,
    noise_scale: Tensor | float,
    clip: Tensor | float,
    low: Tensor | float,
    high: Tensor | float,
    rng: torch.Generator,
) -> Tensor:
    """The target policy's action [N, *A] with normal noise, itself kept within `clip`, and kept within the bounds.

    The scale, the clip and the bounds are in the action's units, numbers or tensors that broadcast to [N, *A]; both bounds are alike.

    Source: Fujimoto et al. 2018, arXiv:1802.09477, eq. 14 and algorithm 1.
    """
    noise = draws.normal(action.shape, rng, action.dtype).to(action.device)
    return (action + (noise * noise_scale).clamp(-clip, clip)).clamp(low, high)


def project(probs: Tensor, reward: Tensor, discount: Tensor, support: Tensor) -> Tensor:
    """The distribution of r + discount * Z on the atoms of Z itself. Probabilities [N, atoms]; reward, discount [N]; support [atoms].

    Each moved atom shares its mass among its two neighbours by nearness; what falls off an end stays at the end.

    Source: Bellemare et al. 2017, arXiv:1707.06887, algorithm 1; Barth-Maron et al. 2018, arXiv:1804.08617, appendix A.

    Raises:
        ValueError: the support is not a vector of two atoms or more. They must ascend evenly, which is not looked at.
    """
    if support.dim() != 1 or len(support) < 2:
        raise ValueError(f"The support must be a vector of 2 atoms or more, and its shape is {tuple(support.shape)}.")
    last = len(support) - 1
    moved = reward[:, None] + discount[:, None] * support
    at = ((moved - support[0]) * (last / (support[-1] - support[0]))).clamp_(0, last)
    below = at.floor()
    above, left = at - below, below.long()
    out = torch.zeros_like(probs).scatter_add_(-1, left, probs * (1 - above))
    return out.scatter_add_(-1, (left + 1).clamp_(max=last), probs * above)


def categorical(logits: Tensor, target_probs: Tensor) -> Tensor:
    """Cross entropy [*] in nats of softmax(logits) [*, atoms] from the target's probabilities, through which no gradient flows.

    Source: Bellemare et al. 2017, arXiv:1707.06887, section 4.1.
    """
    return -(target_probs.detach() * logits.log_softmax(-1)).sum(-1)


def quantile_huber(quantiles: Tensor, target: Tensor, kappa: float = 1.0) -> Tensor:
    """Loss [N] of n quantiles [N, n], at the midpoints (2i - 1) / 2n, of a distribution known by samples [N, m].

    Summed over quantiles, averaged over samples. At kappa = 0 it is quantile regression itself. No gradient flows through the target.

    Source: Dabney et al. 2018, arXiv:1710.10044, eq. 8 to 10 and algorithm 1.
    """
    n = quantiles.shape[-1]
    tau = (torch.arange(n, dtype=quantiles.dtype, device=quantiles.device) + 0.5) / n
    error = target.detach()[:, None, :] - quantiles[:, :, None]
    side = torch.where(error < 0, 1 - tau[:, None], tau[:, None])
    size = huber(error, torch.zeros_like(error), kappa) if kappa else error.abs()
    return (side * size).mean(-1).sum(-1)
