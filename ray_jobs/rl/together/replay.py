"""Replay buffers of several seeds as one, from which a batch for each is drawn at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ray_jobs.rl.contract import Steps, Transitions
from ray_jobs.rl.fast.vmapped import every, one, outside
from ray_jobs.rl.maths.draws import among
from ray_jobs.rl.replay.buffer import ReplayBuffer
from ray_jobs.rl.replay.ring import StepRing


class StackedRing(StepRing):
    """The rings of seeds that are at the same step, one below the other; each seed's own becomes a view of its rows.

    Args:
        draws: indices that each seed draws at once.
    """

    def __init__(self, singles: Sequence[StepRing], draws: int) -> None:
        first = singles[0]
        super().__init__(first.rows, first.width)
        self.singles, self.held = singles, len(singles) * self.rows
        self.seen, self.columns = first.seen.clone(), dict(first.columns)
        self.first = torch.arange(len(singles)).repeat_interleave(draws) * (self.rows * self.width)
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
        self.data[name].unflatten(0, (len(self.singles), self.rows))[:, row, first:last] = every(x)

    def take(self, name: str, at: Tensor) -> Tensor:
        """One field [S * N, ...] of the steps at each seed's indices [S * N]."""
        return super().take(name, at + self.first)

    def gather(self, at: Tensor) -> dict[str, Tensor]:
        """All fields of the steps at each seed's indices."""
        return super().gather(at + self.first)


class StackedBuffer(ReplayBuffer):
    """The buffers of seeds that are at the same step."""

    def __init__(self, singles: Sequence[ReplayBuffer]) -> None:
        first = singles[0]
        self.seeds, self.each = len(singles), first.plan.at_once * first.plan.batch
        ring = StackedRing([single.ring for single in singles], self.each)
        super().__init__(first.plan, first.ring.width, first.gamma, ring)

    def draw_below(self, n: int, rng: Any) -> Tensor:
        """[S * at_once * batch]"""
        return rng.fill((self.each,), torch.int64, among(n)).flatten()

    def sample(self, rng: torch.Generator, progress: float = 0.0) -> Steps | Transitions:
        """A batch for each seed."""
        with outside():
            found = super().sample(rng, progress)
        return seen_by_each(found, lambda x: x.unflatten(0, (self.seeds, -1)))


def seen_by_each(data: Any, all_seeds: Callable[[Tensor], Tensor] = lambda x: x) -> Any:
    """Steps or Transitions as each seed sees its own, where `all_seeds` makes [S, ...] of what they hold."""
    *plain, extras = data
    return type(data)(*(one(all_seeds(x)) for x in plain), {k: one(all_seeds(x)) for k, x in extras.items()})
