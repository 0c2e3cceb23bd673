"""Which workers of a group died, and why."""

from __future__ import annotations

from collections.abc import Mapping

from ray_jobs.distributed.connection import BROKEN, cause


def casualties(ended: Exception | None) -> dict[int, str]:
    """Who of a group died, by rank, and why; nobody where it ended otherwise."""
    preempted = getattr(getattr(ended, "preemption_info", None), "preempted_ranks", ())
    failures: Mapping[int, Exception] = getattr(ended, "worker_failures", {})
    return dict.fromkeys(preempted, "its node was taken back") | {rank: cause(e) for rank, e in failures.items()}


def who_died(died: Mapping[int, str], name: str) -> str:
    """Whose death ended a group, and why, by the causes of its ranks; a survivor may only tell that another is gone."""
    whole = {rank: why for rank, why in died.items() if why != BROKEN}
    rank, why = next(iter((whole or died).items()))
    return f"{name} {rank} died ({why})" if whole else f"a {name} died ({name} {rank} lost its connection)"
