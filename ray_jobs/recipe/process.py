"""Processes: what a `Study` trains, what a process needs of its surroundings, and its random numbers. Nothing here imports torch or ray.

A process is a frozen dataclass of hyperparameters; all that changes is its state, which is passed in. Its fields have scalar types,
literal defaults and a docstring below each, because the command line reads them from the source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

State = dict[str, Any]
"""Everything that changes: named numpy arrays (in C order), tensors, bool, int and float; nothing else, because it is the checkpoint."""

Shard = TypeVar("Shard")
Answer = TypeVar("Answer")


class Crew(Protocol):
    """Computes shards, in this process or on workers: see `ray_jobs.distributed.crew`."""

    def map(self, function: Callable[[Shard], Answer], shards: Iterable[Shard]) -> list[Answer]:
        """Answers of the function to all shards, in their order."""
        ...


class Process(Protocol):
    """What is advanced unit by unit.

    Everything random is a function of (seed, step, shard): a run that is resumed, or computed by more workers, has the same bits.
    """

    @property
    def unit(self) -> str:
        """What one step is: sweep, improvement, episode, pull, generation, round."""
        ...

    def begin(self, seed: int) -> State:
        """The state before the first unit.

        Raises:
            ValueError: the hyperparameters do not fit together; one sentence.
        """
        ...

    def advance(self, state: State, step: int, seed: int, crew: Crew) -> dict[str, float]:
        """Compute one unit and change the state in place, but only after the last map: where a map raises, the state is as it was.

        Args:
            step: units before this one.

        Returns:
            metrics to log.
        """
        ...

    def result(self, state: State, seed: int, crew: Crew) -> dict[str, float]:
        """The metrics of the claim, with the exact values that they are compared with; the state stays as it is."""
        ...

    def pictures(self, state: State, folder: Path) -> None:
        """Draw what the state shows as PNG files in the folder."""
        ...


@runtime_checkable
class Converging(Process, Protocol):
    """A process that can end before its last step."""

    def done(self, state: State) -> bool:
        """Whether more units would change nothing that counts."""
        ...


@runtime_checkable
class Sampling(Process, Protocol):
    """A process whose result can be shown by examples, such as games: `reprise sample RUN`."""

    def sample(self, state: State, n: int, seed: int, folder: Path, name: str) -> Path:
        """Write n examples into the folder, in files whose names begin with `name`; the picture among them."""
        ...


def generator(*key: int) -> np.random.Generator:
    """A generator that is a function of whole numbers, such as (seed, step, first run of a shard)."""
    entropy: Any = np.random.SeedSequence([k % 2**63 for k in key])
    return np.random.Generator(np.random.Philox(entropy))
