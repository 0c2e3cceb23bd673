"""Replay: the newest steps of every environment, in the order they were played, drawn as n-step transitions or as sequences.

Steps are kept in rings of rows, one column for each environment, so that what follows a step is the row below it. Whoever
samples brings the generator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ray_jobs.recipe import UsageError
from ray_jobs.rl.algorithm import Replay, Steps, Transitions, cut
from ray_jobs.rl.priorities import Priorities


def successors(data: Steps) -> Tensor:
    """The true next observation of every step [T, B, *O]."""
    return cut(data.obs[1:], data.last_obs, data.truncated) if len(data.last_obs) else data.obs[1:]


def columns(data: Steps) -> dict[str, Tensor]:
    """The tensors [T, B, ...] to keep, by name; extras as 'extras.NAME'."""
    plain = {k: getattr(data, k) for k in ("action", "reward", "terminated", "truncated")}
    extras = {f"extras.{k}": x for k, x in data.extras.items()}
    return {"obs": data.obs[:-1], "next_obs": successors(data)} | plain | extras


def spans(seen: int, n: int, rows: int) -> list[tuple[int, int, int]]:
    """Where n new steps go in a ring that has had `seen`: (first row, first step, how many), for each run without a gap."""
    skipped = max(0, n - rows)
    row = (seen + skipped) % rows
    before_end = min(n - skipped, rows - row)
    parts = [(row, skipped, before_end), (0, skipped + before_end, n - skipped - before_end)]
    return [part for part in parts if part[2]]


class ReplayBuffer:
    """About the newest `plan.capacity` steps of `envs` environments.

    Args:
        plan: how they are drawn.
        envs: environments whose steps come here: the columns.
        gamma: discount per step.
    """

    def __init__(self, plan: Replay, envs: int, gamma: float) -> None:
        self.plan, self.gamma, self.width = plan, gamma, envs
        self.rows = max(plan.capacity // envs, plan.n_step + 1, plan.length + 1)
        self.data: dict[str, Tensor] = {}
        self.place: dict[str, tuple[int, int]] = {}
        """Columns of each source of steps."""
        self.seen = torch.zeros(envs, dtype=torch.int64)
        """Rows that each column has had."""
        self.priorities = Priorities(self.rows * envs, plan.priority) if plan.priority else None

    def __len__(self) -> int:
        return int(self.filled.sum())

    @property
    def filled(self) -> Tensor:
        """Rows [envs] that each column holds."""
        return self.seen.clamp(max=self.rows)

    def add(self, data: Steps, source: str = "") -> None:
        """Store all steps of a source's environments, over their oldest ones where the ring is full."""
        n, wide = data.terminated.shape
        start = sum(b - a for a, b in self.place.values())
        first, last = self.place.setdefault(source, (start, start + wide))
        parts = spans(int(self.seen[first]), n, self.rows)
        for k, x in columns(data).items():
            for row, begin, count in parts:
                self.write(k, slice(row, row + count), first, last, x if count == n else x[begin : begin + count])
        self.seen[first:last] += n
        if self.priorities:
            row = torch.cat([torch.arange(row, row + count) for row, _, count in parts])
            self.priorities.renew((row[:, None] * self.width + torch.arange(first, last)).flatten())

    def write(self, name: str, row: slice, first: int, last: int, x: Tensor) -> None:
        """Keep x [T, B, ...] in these rows, in the columns first .. last-1."""
        if name not in self.data:
            self.data[name] = self.room(x)
        kept = self.data[name][row]
        (kept if last - first == self.width else kept[:, first:last]).copy_(x)

    def room(self, like: Tensor) -> Tensor:
        """Zeros [rows, envs, ...] for what is kept of one kind.

        Raises:
            UsageError: there is no memory for them.
        """
        shape = (self.rows, self.width, *like.shape[2:])
        try:
            return like.new_zeros(shape)
        except RuntimeError:
            need = math.prod(shape) * like.element_size() / 1e9
            raise UsageError(
                f"To replay {self.rows * self.width:,} steps takes {need:,.0f} GB for one of their parts alone, "
                "and there is not as much memory: take a smaller capacity."
            ) from None

    def cut(self, source: str, columns: Tensor) -> None:
        """End the last episodes of a source's columns [B] bool: what will be added is not what came next."""
        first, last = self.place.get(source, (0, 0))
        if first < last and self.seen[first]:
            row = int(self.seen[first] - 1) % self.rows
            cut, terminated = (self.data[k][row, first:last] for k in ("truncated", "terminated"))
            cut |= columns.to(cut.device) & ~terminated

    def sample(self, rng: torch.Generator, progress: float = 0.0) -> Steps | Transitions:
        """What one call of `update` sees. `progress` of the training, by which importance weights rise to be whole."""
        if self.plan.length:
            return self.sequences(*self.draw(rng, self.plan.length))
        if self.priorities is None:
            column, age = self.draw(rng)
            return self.transitions(column, age, None)
        at, weight = self.priorities.draw(self.plan.batch, rng, self.beta(progress), len(self))
        self.drawn = at
        column = at % self.width
        oldest = (self.seen - self.filled)[column]
        return self.transitions(column, (at // self.width - oldest) % self.rows, weight)

    def beta(self, progress: float) -> float:
        return self.plan.importance + (1 - self.plan.importance) * progress

    def draw(self, rng: torch.Generator, length: int = 1) -> tuple[Tensor, Tensor]:
        """Columns and ages [at_once * batch], uniform over all places where `length` steps are in a row; age 0 is the oldest."""
        if self.width == 1:
            at = self.places(max(0, min(int(self.seen), self.rows) - length + 1), rng)
            return torch.zeros_like(at), at
        there = (self.filled - length + 1).clamp(min=0)
        ends = there.cumsum(0)
        at = self.places(int(ends[-1]), rng)
        even = bool((there == there[0]).all())  # then a quotient tells it in less time than a search
        column = at // there[0] if even else torch.searchsorted(ends, at, right=True)
        return column, at - (ends - there)[column]

    def places(self, n: int, rng: torch.Generator) -> Tensor:
        """Which of n places to draw from, [at_once * batch]."""
        return torch.randint(n, (self.plan.at_once * self.plan.batch,), generator=rng)

    def at(self, column: Tensor, age: Tensor) -> Tensor:
        """Where in the flattened storage the steps of an age are."""
        if self.width == 1:
            return (age + max(0, int(self.seen) - self.rows)) % self.rows
        oldest = (self.seen - self.filled)[column]
        return (oldest + age) % self.rows * self.width + column

    def take(self, name: str, at: Tensor) -> Tensor:
        """One tensor's entries [*at, ...]."""
        x = self.data[name]
        found = x.flatten(0, 1).index_select(0, at.flatten().to(x.device))
        return found if at.dim() == 1 else found.unflatten(0, at.shape)

    def extras(self, at: Tensor) -> dict[str, Tensor]:
        return {k.removeprefix("extras."): self.take(k, at) for k in self.data if k.startswith("extras.")}

    def transitions(self, column: Tensor, age: Tensor, weight: Tensor | None) -> Transitions:
        """Steps with the rewards of up to n of them summed: fewer at an episode's end, and where the data ends."""
        first = last = self.at(column, age)
        reward, factor = self.take("reward", first), self.gamma
        discount = torch.full(first.shape, self.gamma, device=reward.device)
        going = ~(self.take("terminated", first) | self.take("truncated", first)) if self.plan.n_step > 1 else None
        for k in range(1, self.plan.n_step):
            going = going & (age + k < self.filled[column]).to(going.device)
            there = torch.where(going.to(last.device), self.at(column, age + k), last)
            more = self.take("reward", there) * factor
            reward = reward + more * going.view(-1, *[1] * (more.dim() - 1))
            factor *= self.gamma
            discount, last = torch.where(going, factor, discount), there
            going = going & ~(self.take("terminated", there) | self.take("truncated", there))
        discount = discount * ~self.take("terminated", last)
        one = discount.new_ones(discount.shape) if weight is None else weight.to(discount)
        after = self.take("next_obs", last)
        return Transitions(
            self.take("obs", first), self.take("action", first), reward, after, discount, one, self.extras(first)
        )

    def sequences(self, column: Tensor, age: Tensor) -> Steps:
        """`length` consecutive steps from each age on: [length, batch]."""
        at = torch.stack([self.at(column, age + k) for k in range(self.plan.length)])
        obs, after = self.take("obs", at), self.take("next_obs", at)
        action, reward, terminated, truncated = (
            self.take(k, at) for k in ("action", "reward", "terminated", "truncated")
        )
        return Steps(
            torch.cat([obs, after[-1:]]), action, reward, terminated, truncated, after[truncated], self.extras(at)
        )

    def reweigh(self, error: Tensor) -> None:
        """New priorities of the steps drawn last, by the size of their errors [batch]."""
        if self.priorities:
            self.priorities.set(self.drawn, error.detach().abs().cpu())

    def state(self) -> dict[str, Any]:
        """What is filled, as tensors and plain types."""
        used = int(self.filled.max())
        state = {
            "seen": self.seen,
            "place": {k: list(v) for k, v in self.place.items()},
            "data": {k: x[:used].clone() for k, x in self.data.items()},
        }
        return state | ({"priorities": self.priorities.state()} if self.priorities else {})

    def load(self, state: Mapping[str, Any], device: torch.device) -> None:
        self.seen = state["seen"].clone()
        self.place = {k: (v[0], v[1]) for k, v in state["place"].items()}
        for k, x in state["data"].items():
            self.data[k] = x.new_zeros((self.rows, *x.shape[1:]), device=device)
            self.data[k][: len(x)] = x.to(device)
        if self.priorities:
            self.priorities.load(state["priorities"])
