"""Replay: the newest steps of every environment, in the order they were played, drawn as n-step transitions or as sequences.

The caller brings the generator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ray_jobs.rl.contract import Replay, Steps, Transitions
from ray_jobs.rl.replay.priorities import Priorities
from ray_jobs.rl.replay.ring import StepRing
from ray_jobs.rl.replay.windows import sequences, split, transitions

AT_ONCE = 16
"""Batches drawn in one go, at most: more would not stay in a processor's cache, or in memory if they are images."""


class ReplayBuffer:
    """About the newest `plan.capacity` steps of `envs` environments.

    Args:
        plan: how they are drawn.
        envs: environments whose steps are stored.
        gamma: discount per step.
        ring: the storage; one of the size that the plan says without.
    """

    def __init__(self, plan: Replay, envs: int, gamma: float, ring: StepRing | None = None) -> None:
        self.plan, self.gamma = plan, gamma
        self.ring = ring or StepRing(max(plan.capacity // envs, plan.n_step + 1, plan.length + 1), envs)
        self.priorities = Priorities(self.ring.rows * envs, plan.priority) if plan.priority else None
        self.drawn = torch.zeros(0, dtype=torch.int64)
        """Indices of the transitions drawn last, where they have priorities."""

    def __len__(self) -> int:
        return int(self.ring.filled.sum())

    def add(self, data: Steps, source: str = "") -> None:
        """Store all steps of a source's environments, over their oldest ones where the buffer is full."""
        new = self.ring.add(data, source)
        if self.priorities:
            self.priorities.renew(new)

    def cut(self, source: str, columns: Tensor) -> None:
        """As `StepRing.cut`."""
        self.ring.cut(source, columns)

    def sample(self, rng: torch.Generator, progress: float = 0.0) -> Steps | Transitions:
        """The data of one update. The importance weights' exponent rises with the training's `progress`, 0 to 1."""
        (batch,) = self.batches(1, rng, progress)
        return batch

    def batches(self, n: int, rng: torch.Generator, progress: float = 0.0) -> Iterator[Steps | Transitions]:
        """The data of n updates in a row, as `sample`; where each draw depends on the update before it, they are drawn one by one.

        Gain: `AT_ONCE` batches are drawn in one go; drawn one by one, a training of DQN (one CartPole, batches of 64) took 1.2 to 1.4 times
        the CPU time, three trainings of each in turn on a busy machine.
        """
        plan = self.plan
        for done in range(0, n, 1 if plan.length or self.priorities else AT_ONCE):
            if plan.length:
                yield sequences(self.ring, *self.draw(rng, plan.batch, plan.length), plan.length)
            elif self.priorities:
                beta = plan.importance + (1 - plan.importance) * progress
                self.drawn, weight = self.priorities.draw(plan.batch, rng, beta, len(self))
                yield self.transitions(self.drawn, weight)
            else:
                at = self.draw_uniform(rng, min(n - done, AT_ONCE) * plan.batch)
                yield from split(self.transitions(at, None), plan.batch)

    def transitions(self, at: Tensor, weight: Tensor | None) -> Transitions:
        """The transitions from indices `at` [N] on."""
        return transitions(self.ring, at, self.plan.n_step, self.gamma, weight)

    def draw_uniform(self, rng: torch.Generator, count: int) -> Tensor:
        """Indices [count] of steps, uniform over all."""
        filled = self.ring.filled
        if bool((filled == filled[0]).all()):  # then they are in the first rows, whichever is the oldest
            return self.draw_below(int(filled[0]) * self.ring.width, count, rng)
        return self.ring.locate(*self.draw(rng, count))

    def draw(self, rng: torch.Generator, count: int, length: int = 1) -> tuple[Tensor, Tensor]:
        """Columns and ages [count], uniform over all steps that begin `length` steps in a row; age 0 is the oldest."""
        starts = (self.ring.filled - length + 1).clamp(min=0)
        ends = starts.cumsum(0)
        at = self.draw_below(int(ends[-1]), count, rng)
        column = torch.searchsorted(ends, at, right=True)
        return column, at - (ends - starts)[column]

    def draw_below(self, n: int, count: int, rng: torch.Generator) -> Tensor:
        """Integers [count], uniform in 0 .. n-1."""
        return torch.randint(n, (count,), generator=rng)

    def set_priorities(self, error: Tensor) -> None:
        """New priorities of the steps drawn last, by the size of their errors [batch]."""
        if self.priorities:
            self.priorities.set(self.drawn, error.detach().abs().cpu())

    def state(self) -> dict[str, Any]:
        """The stored steps and priorities, as tensors and plain types."""
        return self.ring.state() | ({"priorities": self.priorities.state()} if self.priorities else {})

    def load(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Continue from a `state`, with the storage on a device."""
        self.ring.load(state, device)
        if self.priorities:
            self.priorities.load(state["priorities"])
