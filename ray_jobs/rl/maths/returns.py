"""Returns and advantages: pure functions of tensors [T, *B], any number of trailing dimensions.

Two masks, never one: `discount` is gamma where the task continued and 0 where it terminated; `carry` is 1 inside an episode and 0 at
its last step, for whatever reason. `next_value` is the value of the true next observation, at a truncation too.
"""

from __future__ import annotations

import torch
from torch import Tensor


def accumulate(delta: Tensor, decay: Tensor) -> Tensor:
    """out[t] = delta[t] + decay[t] * out[t+1], with out[T] = 0; all [T, *B]. No gradient flows through it."""
    rows, factors = list(delta.detach().unbind(0)), decay.detach().unbind(0)
    for t in range(len(rows) - 2, -1, -1):
        rows[t] = torch.addcmul(rows[t], factors[t], rows[t + 1])
    return torch.stack(rows)


def gae(reward: Tensor, value: Tensor, next_value: Tensor, discount: Tensor, carry: Tensor, lam: float) -> Tensor:
    """Generalised advantage estimates; all [T, *B]. Advantage + value is the TD(lambda) return.

    Source: Schulman et al. 2016, arXiv:1506.02438, eq. 16.
    """
    return accumulate(reward + discount * next_value - value, discount * carry * lam)


def td_lambda(reward: Tensor, next_value: Tensor, discount: Tensor, carry: Tensor, lam: float) -> Tensor:
    """Lambda-returns; all [T, *B].

    Source: Sutton and Barto 2018, eq. 12.20.
    """
    follows = torch.cat([carry[:-1], torch.zeros_like(carry[-1:])])  # the last row has nothing after it
    mixed = torch.addcmul(reward, discount * (1 - lam * follows), next_value)
    return accumulate(mixed, discount * carry * lam)


def discounted(reward: Tensor, next_value: Tensor, discount: Tensor, carry: Tensor) -> Tensor:
    """Sums of discounted rewards up to the boundary or the end, plus the discounted value there; all [T, *B]."""
    return td_lambda(reward, next_value, discount, carry, 1.0)


def n_step(reward: Tensor, next_value: Tensor, discount: Tensor, carry: Tensor, n: int) -> Tensor:
    """Returns over at most n steps, fewer where an episode or the data ends sooner; all [T, *B].

    Source: Sutton and Barto 2018, eq. 7.1.
    """
    out = reward + discount * next_value
    for _ in range(n - 1):
        later = reward[:-1] + discount[:-1] * out[1:]
        out = torch.cat([torch.where(carry[:-1] == 0, out[:-1], later), out[-1:]])
    return out


def vtrace(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    discount: Tensor,
    carry: Tensor,
    ratio: Tensor,
    *,
    rho_max: float = 1.0,
    c_max: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """V-trace corrections v_s - V(x_s), and advantages for the policy gradient; all [T, *B].

    `ratio` is the learner's probability of the action over the actor's. The advantage bootstraps from v_{s+1}.

    Source: Espeholt et al. 2018, arXiv:1802.01561, eq. 1 and section 4.2.
    """
    rho, c = ratio.clamp(max=rho_max), ratio.clamp(max=c_max)
    excess = accumulate(rho * (reward + discount * next_value - value), discount * carry * c)
    after = torch.cat([excess[1:], torch.zeros_like(excess[:1])]) * carry
    return excess, rho * (reward + discount * (next_value + after) - value)


def retrace(
    reward: Tensor,
    q: Tensor,
    next_value: Tensor,
    discount: Tensor,
    carry: Tensor,
    ratio: Tensor,
    lam: float = 1.0,
) -> Tensor:
    """Retrace's targets for Q(x_t, a_t); all [T, *B].

    `q` is Q of the action that was taken, `next_value` the target policy's V of the true next observation, and `ratio` the target
    policy's probability of the taken action over the behaviour's, cut at 1 here.

    Source: Munos et al. 2016, arXiv:1606.02647, eq. 4; written as a recursion in Wang et al. 2017, arXiv:1611.01224, eq. 5.
    """
    trace = lam * ratio.clamp(max=1.0)
    later = torch.cat([trace[1:], torch.zeros_like(trace[:1])])  # the trace of the step after; the last row has none
    return q + accumulate(reward + discount * next_value - q, discount * carry * later)
