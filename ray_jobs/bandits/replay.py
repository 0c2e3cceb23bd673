"""Evaluation of a policy on logged rewards: a row counts where the policy chooses the row's arm, and else it is passed over.

Source: Li et al. 2011, arXiv:1003.5956, algorithm 2 and theorem 1: unbiased where the logged arms were chosen at random, each alike.
Differs: each run reads rows that are drawn from the log with replacement, so that the spread over runs shows how uncertain the log
is, too (Mary et al. 2014, arXiv:1405.3536, without its jitter). With as many rows as the log has, it is an evaluation of that length.
"""

from __future__ import annotations

import csv
import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ray_jobs.bandits.arms import Array, keys, uniform
from ray_jobs.bandits.policies import Policy, Seen
from ray_jobs.bandits.runs import Part
from ray_jobs.recipe.process import generator

COLUMNS = ("arm", "reward")


@dataclass(frozen=True)
class Log:
    """Rewards of arms that were chosen at random."""

    names: tuple[str, ...]
    """Of the K arms, sorted."""
    arms: NDArray[np.int64]
    """The arm [N] of each row."""
    rewards: Array
    """Its reward [N]."""

    @property
    def means(self) -> Array:
        """The mean reward of each arm [K]."""
        return np.bincount(self.arms, self.rewards) / np.bincount(self.arms)


@functools.cache
def read(path: str) -> Log:
    """The log in a CSV file with the columns arm and reward.

    Raises:
        ValueError: the file, a column or a reward cannot be, or there are fewer than two arms; one sentence.
    """
    try:
        with Path(path).expanduser().open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            lacking = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
            if lacking:
                there = ", ".join(map(str, reader.fieldnames or [])) or "none"
                raise ValueError(
                    f"{path} needs the columns arm and reward; it lacks {' and '.join(lacking)}, and has {there}."
                )
            rows = [(line, row["arm"], _number(row["reward"], path, line)) for line, row in enumerate(reader, 2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"The rewards {path} cannot be read ({getattr(error, 'strerror', None) or error}).") from None
    if unnamed := [line for line, arm, _ in rows if not arm]:
        raise ValueError(f"{path}, line {unnamed[0]}: the arm has no name.")
    names = sorted({arm for _, arm, _ in rows})
    if len(names) < 2:
        raise ValueError(f"{path} must have rewards of two arms or more, and has {len(names)}.")
    place = {name: k for k, name in enumerate(names)}
    return Log(tuple(names), np.array([place[arm] for _, arm, _ in rows]), np.array([reward for *_, reward in rows]))


def _number(text: Any, path: str, line: int) -> float:
    try:
        found = float(text)
    except (TypeError, ValueError):
        found = math.nan
    if not 0 <= found <= 1:
        raise ValueError(f"{path}, line {line}: a reward is a number between 0 and 1, not {text!r}.")
    return found


class Logged(Policy, Protocol):
    """A policy that is evaluated on a log."""

    data: str
    """CSV file of the log."""
    block: int
    """Rows of a step."""


def replayed(of: Logged, seed: int, step: int, part: Part) -> tuple[Part, None]:
    """The runs of a shard after the next block of rows of the log."""
    log, key, rng = read(of.data), keys(seed, part.first, len(part.regret)), generator(seed, step, part.first)
    counts, sums = part.counts.copy(), part.sums.copy()
    pulls = counts.sum(1).astype(int)
    for row in range(step * of.block, (step + 1) * of.block):
        drawn = (uniform(key, np.full(len(key), row)) * len(log.rewards)).astype(np.int64)
        chosen = of.choose(Seen(counts, sums, pulls[:, None], 0.0), rng)
        hit = np.flatnonzero(chosen == log.arms[drawn])
        sums[hit, chosen[hit]] += log.rewards[drawn[hit]]
        counts[hit, chosen[hit]] += 1
        pulls[hit] += 1
    return Part(part.first, counts, sums, part.regret), None


def measured(log: Log, counts: Array, sums: Array) -> dict[str, float]:
    """reward: for each row that counted, over all runs, with the 95% interval of the runs; rows: that counted, in a run.

    random_reward is the mean of the log, best_reward that of its best arm.
    """
    each = sums.sum(1) / np.maximum(counts.sum(1), 1)
    low, high = np.quantile(each, [0.025, 0.975])
    return {
        "reward": float(each.mean()),
        "reward_low": float(low),
        "reward_high": float(high),
        "rows": float(counts.sum(1).mean()),
        "random_reward": float(log.rewards.mean()),
        "best_reward": float(log.means.max()),
    }
