"""What a launcher tells the commands of its jobs: which job they belong to, and which share of the work is theirs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

from ray_jobs.errors import UsageError

T = TypeVar("T")


def job() -> str | None:
    """The id of the job that this process works for (REPRISE_JOB), the same at every attempt of it."""
    return os.environ.get("REPRISE_JOB") or None


def share() -> tuple[int, int] | None:
    """Which of how many tasks this process is (REPRISE_TASK from 0, REPRISE_TASKS), or None where all work is its own.

    Raises:
        UsageError: the variables do not say so.
    """
    task, tasks = os.environ.get("REPRISE_TASK"), os.environ.get("REPRISE_TASKS")
    if not task and not tasks:
        return None
    try:
        mine, whole = int(task or ""), int(tasks or "")
    except ValueError:
        mine, whole = 0, 0
    if not 0 <= mine < whole:
        raise UsageError(f"REPRISE_TASK={task} of REPRISE_TASKS={tasks} is no share: unset both, or count from 0.")
    return mine, whole


def own(work: Sequence[T], part: tuple[int, int]) -> list[T]:
    """This task's share of the work: every n-th of n tasks, from its own number on."""
    return list(work[part[0] :: part[1]])
