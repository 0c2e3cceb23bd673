"""One task's share of a search whose trials do not depend on each other: one after the other, in this process, without Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray_jobs.errors import UsageError
from ray_jobs.run import job_context
from ray_jobs.run.signals import stopping
from ray_jobs.tune import trial
from ray_jobs.tune.search import Search
from ray_jobs.tune.trial import Task


def refuse(search: Search) -> None:
    """Refuse a search that cannot be divided among tasks.

    Raises:
        UsageError: its trials depend on each other.
    """
    if search.scheduler != "none" or search.search != "random":
        raise UsageError(
            f"Tasks of an array share a search whose trials do not depend on each other, not one by {search.scheduler} "
            f"and {search.search} search: add --scheduler none --search random, or submit without an array."
        )


def run(task: Task, part: tuple[int, int], starts: Sequence[Mapping[str, Any]]) -> int:
    """Run this task's trials; the job that gathers them reports the search's result.

    Args:
        starts: number and settings of each trial of the search.

    Returns:
        0; 130 where it was stopped: the running trial has saved what it needs to continue.
    """
    with stopping() as stop:

        def tell(metrics: dict[str, Any], checkpoint: Path | None) -> None:
            if stop.is_set():
                raise SystemExit

        for start in job_context.own(starts, part):
            started = trial.begin(Path(task.out), start["number"], start["settings"])
            print(f"Trial {started.name}: {dict(started.settings)}", flush=True)
            try:
                done = trial.run(task, started, tell)
            except SystemExit:
                return 130
            print(
                f"Trial {started.name}: {done.state} {done.score if done.score is not None else done.reason}",
                flush=True,
            )
    return 0
