"""Replay: the newest steps of every environment, in the order they were played, drawn as n-step transitions or as sequences.

Steps are kept in rings of rows, one column for each environment, so that what follows a step is the row below it, and all of a step
side by side. Whoever samples brings the generator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ray_jobs.errors import UsageError
from ray_jobs.rl.batches import cut
from ray_jobs.rl.contract import Replay, Steps, Transitions
from ray_jobs.rl.replay.priorities import Priorities
from ray_jobs.rl.replay.records import WORD, Fields, laid_out, views, words


def successors(data: Steps) -> Tensor:
    """The true next observation of every step [T, B, *O]."""
    return cut(data.obs[1:], data.last_obs, data.truncated) if len(data.last_obs) else data.obs[1:]


def columns(data: Steps) -> dict[str, Tensor]:
    """The tensors [T, B, ...] to keep, by name; extras as 'extras.NAME'."""
    plain = {k: getattr(data, k) for k in ("action", "reward", "terminated", "truncated")}
    extras = {f"extras.{k}": x for k, x in data.extras.items()}
    return {"obs": data.obs[:-1], "next_obs": successors(data)} | plain | extras


def extras(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of how `columns` names them."""
    return {k.removeprefix("extras."): x for k, x in found.items() if k.startswith("extras.")}


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
        self.held = self.rows
        """Rows that there is to be memory for."""
        self.fields: Fields = {}
        self.steps = torch.zeros(0)
        """[held, envs, words], once it is known what there is of a step."""
        self.data: dict[str, Tensor] = {}
        """Views of that, [held, envs, ...]."""
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
        parts, new = spans(int(self.seen[first]), n, self.rows), columns(data)
        if not self.data:
            self.hold(new)
        for k, x in new.items():
            for row, begin, count in parts:
                self.write(k, slice(row, row + count), first, last, x if count == n else x[begin : begin + count])
        self.seen[first:last] += n
        if self.priorities:
            row = torch.cat([torch.arange(row, row + count) for row, _, count in parts])
            self.priorities.renew((row[:, None] * self.width + torch.arange(first, last)).flatten())

    def write(self, name: str, row: slice, first: int, last: int, x: Tensor) -> None:
        """Keep x [T, B, ...] in these rows, in the columns first .. last-1."""
        kept = self.data[name][row]
        (kept if last - first == self.width else kept[:, first:last]).copy_(x)

    def hold(self, like: Mapping[str, Tensor], device: torch.device | None = None) -> None:
        """Make room for steps of which there are such tensors [T, B, ...]."""
        self.fields = laid_out({k: (x.dtype, x.shape[2:]) for k, x in like.items()})
        self.show(self.room(device or next(iter(like.values())).device))

    def room(self, device: torch.device) -> Tensor:
        """Zeros [held, envs, words].

        Raises:
            UsageError: there is not as much.
        """
        shape = (self.held, self.width, words(self.fields))
        try:
            return torch.zeros(shape, dtype=torch.int64, device=device)
        except RuntimeError:
            raise UsageError(
                f"To replay {self.held * self.width:,} steps takes {math.prod(shape) * WORD / 1e9:,.0f} GB, "
                "and there is not as much memory: take a smaller capacity."
            ) from None

    def show(self, steps: Tensor) -> None:
        """Let the steps [held, envs, words] be those."""
        self.steps, self.data = steps, views(steps, self.fields)

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
            return self.transitions(self.evenly(rng), None)
        self.drawn, weight = self.priorities.draw(self.plan.batch, rng, self.beta(progress), len(self))
        return self.transitions(self.drawn, weight)

    def beta(self, progress: float) -> float:
        return self.plan.importance + (1 - self.plan.importance) * progress

    def evenly(self, rng: torch.Generator) -> Tensor:
        """Where [at_once * batch] steps are, uniform over all."""
        there = self.filled
        if bool((there == there[0]).all()):  # then they are in the first rows, whichever is the oldest
            return self.places(int(there[0]) * self.width, rng)
        return self.at(*self.draw(rng))

    def draw(self, rng: torch.Generator, length: int = 1) -> tuple[Tensor, Tensor]:
        """Columns and ages [at_once * batch], uniform over all places where `length` steps are in a row; age 0 is the oldest."""
        there = (self.filled - length + 1).clamp(min=0)
        ends = there.cumsum(0)
        at = self.places(int(ends[-1]), rng)
        column = torch.searchsorted(ends, at, right=True)
        return column, at - (ends - there)[column]

    def places(self, n: int, rng: torch.Generator) -> Tensor:
        """Which of n places to draw from, [at_once * batch]."""
        return torch.randint(n, (self.plan.at_once * self.plan.batch,), generator=rng)

    def at(self, column: Tensor, age: Tensor) -> Tensor:
        """Where in the flattened storage the steps of an age are."""
        oldest = (self.seen - self.filled)[column]
        return (oldest + age) % self.rows * self.width + column

    def take(self, name: str, at: Tensor) -> Tensor:
        """One tensor's entries [N, ...], at [N]."""
        return self.data[name].flatten(0, 1).index_select(0, at.to(self.steps.device))

    def entries(self, at: Tensor) -> dict[str, Tensor]:
        """All tensors' entries [*at, ...]."""
        found = self.steps.flatten(0, 1).index_select(0, at.flatten().to(self.steps.device))
        return views(found if at.dim() == 1 else found.unflatten(0, at.shape), self.fields)

    def transitions(self, first: Tensor, weight: Tensor | None) -> Transitions:
        """The steps at `first`, with the rewards of up to n steps summed."""
        found = self.entries(first)
        discount = torch.full(first.shape, self.gamma, device=found["reward"].device)
        if self.plan.n_step > 1:
            found, discount = self.looked_ahead(first, found, discount)
        discount = discount * ~found["terminated"]
        one = discount.new_ones(discount.shape) if weight is None else weight.to(discount)
        return Transitions(
            found["obs"], found["action"], found["reward"], found["next_obs"], discount, one, extras(found)
        )

    def looked_ahead(
        self, first: Tensor, found: Mapping[str, Tensor], discount: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """What was found at `first` as n steps in one, fewer at an episode's end and where the data ends, and their discount."""
        column, last, reward, factor = first % self.width, first, found["reward"], self.gamma
        age = (first // self.width - (self.seen - self.filled)[column]) % self.rows
        going = ~(found["terminated"] | found["truncated"])
        for k in range(1, self.plan.n_step):
            going = going & (age + k < self.filled[column]).to(going.device)
            there = torch.where(going.to(last.device), self.at(column, age + k), last)
            more = self.take("reward", there) * factor
            reward = reward + more * going.view(-1, *[1] * (more.dim() - 1))
            factor *= self.gamma
            discount, last = torch.where(going, factor, discount), there
            going = going & ~(self.take("terminated", there) | self.take("truncated", there))
        after = {k: self.take(k, last) for k in ("next_obs", "terminated")}
        return {**found, "reward": reward, **after}, discount

    def sequences(self, column: Tensor, age: Tensor) -> Steps:
        """`length` consecutive steps from each age on: [length, batch]."""
        at = torch.stack([self.at(column, age + k) for k in range(self.plan.length)])
        found = self.entries(at)
        obs, after = torch.cat([found["obs"], found["next_obs"][-1:]]), found["next_obs"][found["truncated"]]
        return Steps(obs, *(found[k] for k in ("action", "reward", "terminated", "truncated")), after, extras(found))

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
        if state["data"]:
            self.hold(state["data"], device)
        for k, x in state["data"].items():
            self.data[k][: len(x)] = x.to(device)
        if self.priorities:
            self.priorities.load(state["priorities"])
