"""Consecutive steps of a ring as training data: sums of up to n rewards, and sequences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ray_jobs.rl.contract import Steps, Transitions
from ray_jobs.rl.fast.lookahead import split_draw
from ray_jobs.rl.replay.ring import StepRing, extras_of


def transitions(ring: StepRing, first: Tensor, n_step: int, gamma: float, weight: Tensor | None) -> Transitions:
    """The steps at indices `first` [N], each with the discounted rewards of up to n steps summed.

    Args:
        weight: [N] in the loss; 1 without.
    """
    found = ring.gather(first)
    discount = torch.full(first.shape, gamma, device=found["reward"].device)
    if n_step > 1:
        found, discount = _sum_ahead(ring, first, n_step, gamma, found, discount)
    discount = discount * ~found["terminated"]
    one = discount.new_ones(discount.shape) if weight is None else weight.to(discount)
    return Transitions(
        found["obs"], found["action"], found["reward"], found["next_obs"], discount, one, extras_of(found)
    )


def _sum_ahead(
    ring: StepRing, first: Tensor, n_step: int, gamma: float, found: Mapping[str, Tensor], discount: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """The fields of n steps in one, fewer at an episode's end and where the data ends, and their discount [N]."""
    column, last, reward, factor = first % ring.width, first, found["reward"], gamma
    age = ring.age(first)
    going = ~(found["terminated"] | found["truncated"])
    for k in range(1, n_step):
        going = going & (age + k < ring.filled[column]).to(going.device)
        there = torch.where(going.to(last.device), ring.locate(column, age + k), last)
        more = ring.take("reward", there) * factor
        reward = reward + more * going.view(-1, *[1] * (more.dim() - 1))
        factor *= gamma
        discount, last = torch.where(going, factor, discount), there
        going = going & ~(ring.take("terminated", there) | ring.take("truncated", there))
    after = {k: ring.take(k, last) for k in ("next_obs", "terminated")}
    return {**found, "reward": reward, **after}, discount


def sequences(ring: StepRing, column: Tensor, age: Tensor, length: int) -> Steps:
    """`length` consecutive steps from each age [N] on: [length, N]."""
    at = torch.stack([ring.locate(column, age + k) for k in range(length)])
    found = ring.gather(at)
    obs, after = torch.cat([found["obs"], found["next_obs"][-1:]]), found["next_obs"][found["truncated"]]
    action, reward, terminated, truncated = (found[k] for k in ("action", "reward", "terminated", "truncated"))
    return Steps(obs, action, reward, terminated, truncated, after, extras_of(found))


def split(data: Transitions, size: int) -> Iterator[Transitions]:
    """Transitions [k * size] as k batches [size], in order."""
    columns = [split_draw(x, size) if x is data.next_obs else x.split(size) for x in data[:-1]]
    extras = {k: x.split(size) for k, x in data.extras.items()}
    for i, (obs, action, reward, next_obs, discount, weight) in enumerate(zip(*columns, strict=True)):
        yield Transitions(obs, action, reward, next_obs, discount, weight, {k: x[i] for k, x in extras.items()})
