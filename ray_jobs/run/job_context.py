"""The context that a launcher gives the commands of its jobs: which job they belong to, and which share of the work is theirs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

from ray_jobs.errors import UsageError

T = TypeVar("T")


def job() -> str | None:
    """The id of the job that this process works for (REPRISE_JOB), the same at every attempt; None outside of jobs."""
    return os.environ.get("REPRISE_JOB") or None


def share() -> tuple[int, int] | None:
    """This process's task number, from 0, and the number of tasks (REPRISE_TASK, REPRISE_TASKS); None where all work is its own.

    Raises:
        UsageError: the variables have other values.
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
    """This task's share of the work: for n tasks every n-th item, starting at its own number."""
    return list(work[part[0] :: part[1]])
