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


class StackedBuffer(ReplayBuffer):
    """The buffers of seeds that are at the same step, one below the other; each seed's own becomes a view of its rows."""

    def __init__(self, singles: Sequence[ReplayBuffer]) -> None:
        first = singles[0]
        super().__init__(first.plan, first.width, first.gamma)
        self.singles, self.held = singles, len(singles) * self.rows
        self.seen, self.place = first.seen.clone(), dict(first.place)
        self.each = self.plan.at_once * self.plan.batch
        self.first = torch.arange(len(singles)).repeat_interleave(self.each) * (self.rows * self.width)
        for single in singles:
            single.seen, single.place = self.seen, self.place
        if first.data:
            self.fields, used = first.fields, int(first.filled.max())
            steps = self.room(first.steps.device)
            for single, part in zip(singles, steps.split(self.rows), strict=True):
                part[:used] = single.steps[:used]
            self.show(steps)

    def show(self, steps: Tensor) -> None:
        super().show(steps)
        for single, part in zip(self.singles, steps.split(self.rows), strict=True):
            single.fields = self.fields
            single.show(part)

    def write(self, name: str, row: slice, first: int, last: int, x: Tensor) -> None:
        """x [T, B, ...] of each seed."""
        self.data[name].unflatten(0, (len(self.singles), self.rows))[:, row, first:last] = every(x)

    def places(self, n: int, rng: Any) -> Tensor:
        """[S * at_once * batch]"""
        return rng.fill((self.each,), torch.int64, among(n)).flatten()

    def take(self, name: str, at: Tensor) -> Tensor:
        return super().take(name, at + self.first)

    def entries(self, at: Tensor) -> dict[str, Tensor]:
        return super().entries(at + self.first)

    def sample(self, rng: torch.Generator, progress: float = 0.0) -> Steps | Transitions:
        with outside():
            found = super().sample(rng, progress)
        return seen_by_each(found, lambda x: x.unflatten(0, (len(self.singles), -1)))


def seen_by_each(data: Any, all_seeds: Callable[[Tensor], Tensor] = lambda x: x) -> Any:
    """Steps or Transitions as each seed sees its own, where `all_seeds` makes [S, ...] of what they hold."""
    *plain, extras = data
    return type(data)(*(one(all_seeds(x)) for x in plain), {k: one(all_seeds(x)) for k, x in extras.items()})
