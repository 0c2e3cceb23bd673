"""Storage of a replay buffer: rings of rows, one column for each environment, so that what follows a step is in the row below it.

All fields of a step lie side by side in one row (`records`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ray_jobs.errors import UsageError
from ray_jobs.rl.batches import cut
from ray_jobs.rl.contract import Steps
from ray_jobs.rl.replay.records import WORD, Fields, layout, views, words


def successors(data: Steps) -> Tensor:
    """The true next observation of every step [T, B, *O]."""
    return cut(data.obs[1:], data.last_obs, data.truncated) if len(data.last_obs) else data.obs[1:]


def to_fields(data: Steps) -> dict[str, Tensor]:
    """The tensors [T, B, ...] to store, by name; extras as 'extras.NAME'."""
    plain = {k: getattr(data, k) for k in ("action", "reward", "terminated", "truncated")}
    extras = {f"extras.{k}": x for k, x in data.extras.items()}
    return {"obs": data.obs[:-1], "next_obs": successors(data)} | plain | extras


def extras_of(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The extras among named tensors, by the names that they had before `to_fields`."""
    return {k.removeprefix("extras."): x for k, x in found.items() if k.startswith("extras.")}


def spans(seen: int, n: int, rows: int) -> list[tuple[int, int, int]]:
    """Where n new steps go in a ring that has had `seen`: (first row, first step, count) of each run without a gap."""
    skipped = max(0, n - rows)
    row = (seen + skipped) % rows
    before_end = min(n - skipped, rows - row)
    parts = [(row, skipped, before_end), (0, skipped + before_end, n - skipped - before_end)]
    return [part for part in parts if part[2]]


class StepRing:
    """The newest steps of several environments.

    Args:
        rows: steps kept of each environment.
        width: environments: the columns.
    """

    def __init__(self, rows: int, width: int) -> None:
        self.rows, self.width = rows, width
        self.held = rows
        """Rows to allocate."""
        self.fields: Fields = {}
        self.steps = torch.zeros(0)
        """[held, width, words], once the fields of a step are known."""
        self.data: dict[str, Tensor] = {}
        """Views of `steps`, [held, width, ...] for each field."""
        self.columns: dict[str, tuple[int, int]] = {}
        """First column, and the one after the last, of each source of steps."""
        self.seen = torch.zeros(width, dtype=torch.int64)
        """Steps that each column has had."""

    @property
    def filled(self) -> Tensor:
        """Rows [width] that each column holds."""
        return self.seen.clamp(max=self.rows)

    def add(self, data: Steps, source: str) -> Tensor:
        """Store all steps of a source's environments, over their oldest ones where the ring is full; where they are now [N]."""
        n, wide = data.terminated.shape
        start = sum(b - a for a, b in self.columns.values())
        first, last = self.columns.setdefault(source, (start, start + wide))
        parts, new = spans(int(self.seen[first]), n, self.rows), to_fields(data)
        if not self.data:
            self.allocate(new)
        for k, x in new.items():
            for row, begin, count in parts:
                self.write(k, slice(row, row + count), first, last, x if count == n else x[begin : begin + count])
        self.seen[first:last] += n
        written = torch.cat([torch.arange(row, row + count) for row, _, count in parts])
        return (written[:, None] * self.width + torch.arange(first, last)).flatten()

    def write(self, name: str, row: slice, first: int, last: int, x: Tensor) -> None:
        """Store x [T, B, ...] in these rows, in the columns first .. last-1."""
        kept = self.data[name][row]
        (kept if last - first == self.width else kept[:, first:last]).copy_(x)

    def allocate(self, like: Mapping[str, Tensor], device: torch.device | None = None) -> None:
        """Make room for steps whose fields are tensors [T, B, ...] like these."""
        self.fields = layout({k: (x.dtype, x.shape[2:]) for k, x in like.items()})
        self.use(self.zeros(device or next(iter(like.values())).device))

    def zeros(self, device: torch.device) -> Tensor:
        """[held, width, words]

        Raises:
            UsageError: there is not enough memory.
        """
        shape = (self.held, self.width, words(self.fields))
        try:
            return torch.zeros(shape, dtype=torch.int64, device=device)
        except RuntimeError:
            raise UsageError(
                f"To replay {self.held * self.width:,} steps takes {math.prod(shape) * WORD / 1e9:,.0f} GB, "
                "and there is not as much memory: take a smaller buffer_size."
            ) from None

    def use(self, steps: Tensor) -> None:
        """Take a tensor [held, width, words] as the storage."""
        self.steps, self.data = steps, views(steps, self.fields)

    def cut(self, source: str, columns: Tensor) -> None:
        """Truncate the newest episodes in a source's columns [B] bool: the steps added next do not follow them."""
        first, last = self.columns.get(source, (0, 0))
        if first < last and self.seen[first]:
            row = int(self.seen[first] - 1) % self.rows
            truncated, terminated = (self.data[k][row, first:last] for k in ("truncated", "terminated"))
            truncated |= columns.to(truncated.device) & ~terminated

    def locate(self, column: Tensor, age: Tensor) -> Tensor:
        """Indices into the flattened storage of the steps of an age in a column; age 0 is the oldest."""
        oldest = (self.seen - self.filled)[column]
        return (oldest + age) % self.rows * self.width + column

    def age(self, at: Tensor) -> Tensor:
        """The age of the steps at indices; the inverse of `locate`."""
        return (at // self.width - (self.seen - self.filled)[at % self.width]) % self.rows

    def take(self, name: str, at: Tensor) -> Tensor:
        """One field [N, ...] of the steps at indices [N]."""
        return self.data[name].flatten(0, 1).index_select(0, at.to(self.steps.device))

    def gather(self, at: Tensor) -> dict[str, Tensor]:
        """All fields [*at, ...] of the steps at indices."""
        found = self.steps.flatten(0, 1).index_select(0, at.flatten().to(self.steps.device))
        return views(found if at.dim() == 1 else found.unflatten(0, at.shape), self.fields)

    def state(self) -> dict[str, Any]:
        """The filled rows, as tensors and plain types. 'place' is the checkpoint's name for the columns."""
        used = int(self.filled.max())
        return {
            "seen": self.seen,
            "place": {k: list(v) for k, v in self.columns.items()},
            "data": {k: x[:used].clone() for k, x in self.data.items()},
        }

    def load(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Continue from a `state`, with the storage on a device."""
        self.seen = state["seen"].clone()
        self.columns = {k: (v[0], v[1]) for k, v in state["place"].items()}
        if state["data"]:
            self.allocate(state["data"], device)
        for k, x in state["data"].items():
            self.data[k][: len(x)] = x.to(device)
