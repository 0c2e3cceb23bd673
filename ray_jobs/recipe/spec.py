"""What defines a run: a recipe, its settings, a seed, and where it runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Where:
    """Where a run executes, and on how many processes. It changes only the order of sums in the result."""

    workers: int = 1
    """Data-parallel processes that train a generative model."""
    runners: int = 0
    """Ray actors that play the environments, over all learners together; 0 plays them in the learners' own processes."""
    learners: int = 1
    """Processes that share the updates of an agent, each with runners of its own."""
    accelerator: str = "auto"
    """auto, cpu or gpu."""
    threads: int = 1
    """CPU threads of each process."""
    address: str | None = None
    """A Ray cluster ('auto', 'host:6379'); without one, and without RAY_ADDRESS, this machine alone."""
    max_failures: int = 3
    """How often a died group of workers is restarted from its last checkpoint."""
    min_workers: int = 0
    """Fewest workers to begin with where a cluster has no room for all; 0 waits for all."""


@dataclass(frozen=True)
class Spec:
    """Everything that defines a run. Workers receive only this, and build the rest from it."""

    recipe: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    where: Where = field(default_factory=Where)
    out: str | None = None
    start: Mapping[str, str] = field(default_factory=dict)
    """Runs whose averaged weights parts of the model start from: the part's name and the run's folder or address."""
    measured_on: str = "test"
    """'test'; 'validation' in a search: a model is measured on examples kept out of the training part, an agent on environments
    with other seeds than those of a final evaluation."""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Spec:
        """The spec that `run.json` or a wire message holds."""
        where = Where(**record["where"])
        return cls(
            record["recipe"], record["settings"], record["seed"], where, record.get("out"), record.get("start") or {},
            record.get("measured_on") or "test",
        )  # fmt: skip


def as_flags(where: Where) -> list[str]:
    """The options that `reprise train` needs to run in the same place."""
    changed = [f for f in dataclasses.fields(where) if getattr(where, f.name) != f.default]
    return [word for f in changed for word in (f"--{f.name}", str(getattr(where, f.name)))]
