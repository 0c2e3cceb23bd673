"""Replay buffers of several seeds as one, from which a batch for each is drawn at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ray_jobs.rl.contract import Transitions
from ray_jobs.rl.fast.vmapped import unwrap, without_vmap, wrap
from ray_jobs.rl.maths.draws import integers_below
from ray_jobs.rl.replay.buffer import ReplayBuffer
from ray_jobs.rl.replay.ring import StepRing


class StackedRing(StepRing):
    """The rings of seeds that are at the same step, one below the other; each seed's own becomes a view of its rows."""

    def __init__(self, singles: Sequence[StepRing]) -> None:
        first = singles[0]
        super().__init__(first.rows, first.width)
        self.singles, self.held = singles, len(singles) * self.rows
        self.seen, self.columns = first.seen.clone(), dict(first.columns)
        for single in singles:
            single.seen, single.columns = self.seen, self.columns
        if first.data:
            self.fields, used = first.fields, int(first.filled.max())
            steps = self.zeros(first.steps.device)
            for single, part in zip(singles, steps.split(self.rows), strict=True):
                part[:used] = single.steps[:used]
            self.use(steps)

    def use(self, steps: Tensor) -> None:
        """Take a tensor as the storage of all seeds, and its parts as theirs."""
        super().use(steps)
        for single, part in zip(self.singles, steps.split(self.rows), strict=True):
            single.fields = self.fields
            single.use(part)

    def write(self, name: str, row: slice, first: int, last: int, x: Tensor) -> None:
        """Store x [T, B, ...] of each seed."""
        self.data[name].unflatten(0, (len(self.singles), self.rows))[:, row, first:last] = unwrap(x)

    def take(self, name: str, at: Tensor) -> Tensor:
        """One field [S * N, ...] of the steps at each seed's indices [S * N]."""
        return super().take(name, at + self.starts(at))

    def gather(self, at: Tensor) -> dict[str, Tensor]:
        """All fields of the steps at each seed's indices."""
        return super().gather(at + self.starts(at))

    def starts(self, at: Tensor) -> Tensor:
        """The first index [S * N] of the seed that each of `at` [S * N] belongs to."""
        return torch.arange(len(self.singles)).repeat_interleave(len(at) // len(self.singles)) * (
            self.rows * self.width
        )


class StackedBuffer(ReplayBuffer):
    """The buffers of seeds that are at the same step. Batches are drawn within `vmap_seeds`: one for each seed."""

    def __init__(self, singles: Sequence[ReplayBuffer]) -> None:
        first = singles[0]
        super().__init__(first.plan, first.ring.width, first.gamma, StackedRing([single.ring for single in singles]))
        self.seeds = len(singles)

    def draw_below(self, n: int, count: int, rng: Any) -> Tensor:
        """[S * count]"""
        return rng.draw_all((count,), torch.int64, integers_below(n)).flatten()

    def draw_uniform(self, rng: torch.Generator, count: int) -> Tensor:
        """Indices [S * count] of each seed's steps."""
        with without_vmap():
            return super().draw_uniform(rng, count)

    def transitions(self, at: Tensor, weight: Tensor | None) -> Transitions:
        """Each seed's transitions [N] from indices `at` [S * N] on."""
        with without_vmap():
            found = super().transitions(at, weight)
        return seen_by_each(found, lambda x: x.unflatten(0, (self.seeds, -1)))


def seen_by_each(data: Any, all_seeds: Callable[[Tensor], Tensor] = lambda x: x) -> Any:
    """Steps or Transitions as each seed sees its own, where `all_seeds` makes [S, ...] of what they hold."""
    *plain, extras = data
    return type(data)(*(wrap(all_seeds(x)) for x in plain), {k: wrap(all_seeds(x)) for k, x in extras.items()})
