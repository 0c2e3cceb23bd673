"""Cut batches into minibatches, and find the values that follow each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from ray_jobs.rl.contract import Steps, Transitions, World
from ray_jobs.rl.fast.vmapped import taken
from ray_jobs.rl.maths import draws


def standardise(x: Tensor, world: World) -> Tensor:
    """(x - mean) / deviation, with the moments of all learners' x, each of which has as many elements."""
    if world.size == 1:
        deviation, mean = torch.std_mean(x, correction=0)
        return (x - mean) / (deviation + 1e-8)
    mean = world.mean(x.mean())
    square = world.mean((x - mean).square().mean())
    return (x - mean) / (square.sqrt() + 1e-8)


Batch = TypeVar("Batch", bound=tuple[Tensor, ...])


def shuffled(batch: Batch, parts: int, world: World) -> Iterator[Batch]:
    """A named tuple of tensors [N, ...] as so many minibatches in a new random order; one that is the whole batch needs none."""
    if parts == 1:
        yield batch
        return
    order = draws.permutation(len(batch[0]), world.rng).to(batch[0].device)
    mixed = [taken(x, order).chunk(parts) for x in batch]
    yield from (type(batch)(*x) for x in zip(*mixed, strict=True))


def split(data: Transitions, size: int) -> Iterator[Transitions]:
    """Transitions [k * size] as k batches [size], in order."""
    columns = [x.split(size) for x in data[:-1]]
    beside = {k: x.split(size) for k, x in data.extras.items()}
    for i, (obs, action, reward, next_obs, discount, weight) in enumerate(zip(*columns, strict=True)):
        yield Transitions(obs, action, reward, next_obs, discount, weight, {k: x[i] for k, x in beside.items()})


def successors(v: Tensor, value: Callable[[Tensor], Tensor], data: Steps) -> Tensor:
    """V of each step's true successor [T, B], from v [T+1, B] of `data.obs` and one pass over the few that were cut."""
    return cut(v[1:], value(data.last_obs), data.truncated) if len(data.last_obs) else v[1:]


def cut(after: Tensor, last: Tensor, truncated: Tensor) -> Tensor:
    """after [T, B, *X] with the k-th of `last` [K, *X] at the k-th step that was cut; of several seeds each may have fewer than K."""
    which = (truncated.flatten().cumsum(0) - 1).clamp(min=0)
    ends = last[which].unflatten(0, truncated.shape)
    return torch.where(truncated.view(*truncated.shape, *[1] * (after.dim() - 2)), ends, after)


def values(value: Callable[[Tensor], Tensor], data: Steps) -> tuple[Tensor, Tensor]:
    """V of each step's observation and V of its true successor, both [T, B], in one pass over [T+1, B] and one over the few cut."""
    v = value(data.obs)
    return v[:-1], successors(v, value, data)
