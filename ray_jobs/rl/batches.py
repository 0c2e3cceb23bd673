"""Batches of steps: advantages and returns, the values that follow each step, minibatches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from ray_jobs.rl.contract import Log, Steps, World
from ray_jobs.rl.fast.vmapped import take_rows
from ray_jobs.rl.maths import draws
from ray_jobs.rl.maths.policy_losses import kl_estimate
from ray_jobs.rl.maths.returns import discounted, gae


def standardise(x: Tensor, world: World) -> Tensor:
    """(x - mean) / standard deviation, over all learners' x, which have equally many elements."""
    if world.size == 1:
        deviation, mean = torch.std_mean(x, correction=0)
        return (x - mean) / (deviation + 1e-8)
    mean = world.mean(x.mean())
    square = world.mean((x - mean).square().mean())
    return (x - mean) / (square.sqrt() + 1e-8)


Columns = TypeVar("Columns", bound=tuple[Tensor, ...])


def shuffled(batch: Columns, parts: int, world: World) -> Iterator[Columns]:
    """A named tuple of tensors [N, ...] as `parts` minibatches in a new random order; with one part, the batch itself."""
    if parts == 1:
        yield batch
        return
    order = draws.permutation(len(batch[0]), world.rng).to(batch[0].device)
    columns = [take_rows(x, order).chunk(parts) for x in batch]
    yield from (type(batch)(*x) for x in zip(*columns, strict=True))


class Batch(NamedTuple):
    """Steps in any order, with the outputs of the agent before an update."""

    obs: Tensor
    """[N, *O]"""
    action: Tensor
    """[N, *A]"""
    out: Tensor
    """[N, outputs]: parameters of the policy's distributions, such as logits."""
    logp: Tensor
    """[N]: log-probabilities of the actions."""
    value: Tensor
    """[N]"""
    advantage: Tensor
    """[N]: generalised advantage estimates."""

    @property
    def target(self) -> Tensor:
        """[N]: the TD(lambda) return, for the value."""
        return self.advantage + self.value


@torch.no_grad()
def advantage_batch(agent: Any, data: Steps, gamma: float, lam: float) -> Batch:
    """All steps [T, B] as one batch, in the order of time.

    Args:
        agent: agent(obs) -> the policy's parameters [T+1, B, outputs] and V(obs) [T+1, B]; agent.value(obs) -> V(obs); agent.policy.
        data: played by this agent.
        gamma: discount.
        lam: GAE's lambda.
    """
    out, v = agent(data.obs)
    out, value, after = out[:-1], v[:-1], successors(v, agent.value, data)
    advantage = gae(data.reward, value, after, data.discount(gamma), data.carry, lam)
    logp = agent.policy.log_prob(out, data.action)
    return Batch(*(x.flatten(0, 1) for x in (data.obs[:-1], data.action, out, logp, value, advantage)))


@torch.no_grad()
def kl_and_entropy(agent: Any, batch: Batch) -> Log:
    """An estimate of KL(policy that acted || policy now), and the entropy now; scalars in nats."""
    out = agent.logits(batch.obs)
    kl = kl_estimate(agent.policy.log_prob(out, batch.action) - batch.logp)
    return {"kl": kl.mean(), "entropy": agent.policy.entropy(out).mean()}


def successors(v: Tensor, value: Callable[[Tensor], Tensor], data: Steps) -> Tensor:
    """V of each step's true successor [T, B], from v [T+1, B] of `data.obs` and one pass over the truncated steps' last observations."""
    return cut(v[1:], value(data.last_obs), data.truncated) if len(data.last_obs) else v[1:]


def cut(after: Tensor, last: Tensor, truncated: Tensor) -> Tensor:
    """after [T, B, *X] with the k-th of `last` [K, *X] at the k-th truncated step; with several seeds, a seed may have fewer than K."""
    which = (truncated.flatten().cumsum(0) - 1).clamp(min=0)
    ends = last[which].unflatten(0, truncated.shape)
    return torch.where(truncated.view(*truncated.shape, *[1] * (after.dim() - 2)), ends, after)


def values(value: Callable[[Tensor], Tensor], data: Steps) -> tuple[Tensor, Tensor]:
    """V of each step's observation and V of its true successor, both [T, B]."""
    v = value(data.obs)
    return v[:-1], successors(v, value, data)


@torch.no_grad()
def bootstrapped_returns(v: Tensor, value: Callable[[Tensor], Tensor], data: Steps, gamma: float) -> Tensor:
    """R [T, B]: discounted rewards up to the episode's end or the horizon, plus the discounted value of the state after it.

    Args:
        v: V of `data.obs`, [T+1, B].
        value: V of other observations [*, *O].

    Source: Mnih et al. 2016, arXiv:1602.01783, algorithm S3.
    """
    v = v.detach()
    return discounted(data.reward, successors(v, value, data), data.discount(gamma), data.carry)
