"""Counters of a training: steps, episodes, and where its time goes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ray_jobs.rl.rollout.fragments import Fragment

WINDOW = 100
"""Training episodes over which returns are averaged."""


@dataclass
class Counters:
    """Counts of a training so far, in plain types: a part of every checkpoint."""

    steps: int = 0
    """Environment steps of all learners."""
    episodes: int = 0
    seconds: float = 0.0
    """Of training, over all its resumptions."""
    reached: float = math.nan
    """Seconds until `stop_return` was reached."""
    returns: list[float] = field(default_factory=list)
    """Of this learner's newest episodes, at most WINDOW."""
    lengths: list[int] = field(default_factory=list)

    def add(self, fragments: Sequence[Fragment], learners: int) -> None:
        """Count this learner's fragments; the other learners' have as many steps."""
        self.steps += learners * sum(f.steps[3].size for f in fragments)  # a reward for each agent is still one step
        for f in fragments:
            self.episodes += len(f.returns)
            self.returns = (self.returns + f.returns)[-WINDOW:]
            self.lengths = (self.lengths + f.lengths)[-WINDOW:]

    def recent(self) -> dict[str, float]:
        """Means over the newest training episodes; empty before the first has ended."""
        if not self.returns:
            return {}
        return {"episode_return": float(np.mean(self.returns)), "episode_length": float(np.mean(self.lengths))}


def counters_of(record: Mapping[str, Any]) -> Counters:
    """The counters that a checkpoint holds.

    Raises:
        TypeError: one is missing, too many, or of another type.
    """
    found = Counters(**record)
    for name, value in asdict(Counters()).items():
        if not isinstance(record[name], type(value)):
            raise TypeError(f"{name} is {record[name]!r}")
    return found


@dataclass
class TimeBreakdown:
    """Seconds spent on each part since the last log."""

    environment: float = 0.0
    inference: float = 0.0
    update: float = 0.0
    transport: float = 0.0

    def add_collection(self, fragments: Sequence[Fragment], wall: float, together: bool) -> None:
        """Add the parts of collecting fragments, which took `wall` seconds.

        Args:
            together: whether the runners played at the same time, so that the slowest counts.
        """
        pick = max if together else sum
        acting, stepping = pick(f.acting for f in fragments), pick(f.stepping for f in fragments)
        self.inference += acting
        self.environment += stepping
        learning = pick(f.learning for f in fragments)
        self.update += learning
        self.transport += max(0.0, wall - acting - stepping - learning)

    def fractions(self) -> dict[str, float]:
        """Each part's share of the whole, to log."""
        spent = asdict(self)
        whole = sum(spent.values()) or 1.0
        return {f"share_{k}": v / whole for k, v in spent.items()}
