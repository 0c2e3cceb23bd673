"""Number of workers that a group starts with, where a cluster has no room for all that were asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ray_jobs.distributed.connection import PATIENCE, START_LIMIT, Lost
from ray_jobs.run.progress import Report

WAIT = 15.0
"""Seconds that a group waits for room for all workers before it starts with fewer."""


def sizes(workers: int, least: int, parts: int | None = None) -> list[int]:
    """Numbers of workers that a group may start with, from `workers` down to `least`: those that divide `parts`.

    Args:
        least: 0 where it must be all.
        parts: the rows that workers share evenly; None where their number is unknown.
    """
    return [n for n in range(workers, (least or workers) - 1, -1) if parts is None or parts % n == 0]


def wait_for_room(
    allowed: Sequence[int], room: Callable[[], int], report: Report, should_stop: Callable[[], bool]
) -> int:
    """Wait for the cluster, and return how many workers to start: the first of `allowed`, or after WAIT the largest with room.

    Args:
        allowed: numbers, the largest first.
        room: returns how many workers the cluster has CPUs for now.

    Raises:
        Lost: there is no room for the last of them within START_LIMIT.
    """
    start = reported = time.monotonic()
    while not should_stop():
        places, now = room(), time.monotonic()
        if places >= allowed[0]:
            return allowed[0]
        fits = next((n for n in allowed if n <= places), 0)
        if fits and now - start >= WAIT:
            report({"note": f"{fits} of {allowed[0]} workers found place; training with {fits}"})
            return fits
        if now - start > START_LIMIT:
            raise Lost(
                f"{allowed[-1]} workers found no free CPUs on the cluster within {START_LIMIT:.0f} s: make room, and resume."
            )
        if now - reported >= PATIENCE:
            reported = now
            report(
                {"note": f"the cluster has room for {places} workers, and at least {allowed[-1]} are needed: waiting"}
            )
        time.sleep(0.5)
    return allowed[-1]
