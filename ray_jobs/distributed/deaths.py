"""Which workers of a group died, and why."""

from __future__ import annotations

from collections.abc import Mapping

from ray_jobs.distributed.connection import BROKEN, cause


def dead_workers(ended: Exception | None) -> dict[int, str]:
    """Causes of death by rank, of a group that `ended` with an error; empty where no worker died."""
    preempted = getattr(getattr(ended, "preemption_info", None), "preempted_ranks", ())
    failures: Mapping[int, Exception] = getattr(ended, "worker_failures", {})
    return dict.fromkeys(preempted, "its node was taken back") | {rank: cause(e) for rank, e in failures.items()}


def who_died(died: Mapping[int, str], name: str) -> str:
    """The beginning of a sentence about the death that ended a group, by the causes of its ranks.

    A survivor may only report that another is gone; a worker with a cause of its own comes first.
    """
    whole = {rank: why for rank, why in died.items() if why != BROKEN}
    rank, why = next(iter((whole or died).items()))
    return f"{name} {rank} died ({why})" if whole else f"a {name} died ({name} {rank} lost its connection)"
