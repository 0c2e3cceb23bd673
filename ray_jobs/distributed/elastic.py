"""How many workers a group begins with, where a cluster has not room for all that were asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ray_jobs.distributed.connection import PATIENCE, START_LIMIT, Lost
from ray_jobs.run.progress import Report

WAIT = 15.0
"""Seconds that a group waits for room for all, before it makes do with fewer."""


def sizes(workers: int, least: int, parts: int | None = None) -> list[int]:
    """Numbers of workers to begin with, from all that were asked for down to `least`: those that `parts` can be shared by.

    Args:
        least: 0 where it must be all.
        parts: what must divide evenly, a global batch in micro-batches; None where nobody knows.
    """
    return [n for n in range(workers, (least or workers) - 1, -1) if parts is None or parts % n == 0]


def found(allowed: Sequence[int], room: Callable[[], int], report: Report, should_stop: Callable[[], bool]) -> int:
    """The number of workers to begin with now: the first of `allowed` if there is room for it, in a while the first that there is.

    Args:
        allowed: numbers, the largest first.
        room: how many workers would find a place at this moment.

    Raises:
        Lost: not even the last finds place within START_LIMIT.
    """
    begun = told = time.monotonic()
    while not should_stop():
        places, now = room(), time.monotonic()
        if places >= allowed[0]:
            return allowed[0]
        fits = next((n for n in allowed if n <= places), 0)
        if fits and now - begun >= WAIT:
            report({"note": f"{fits} of {allowed[0]} workers found place; training with {fits}"})
            return fits
        if now - begun > START_LIMIT:
            raise Lost(
                f"{allowed[-1]} workers found no place on the cluster within {START_LIMIT:.0f} s: make room, and resume."
            )
        if now - told >= PATIENCE:
            told = now
            report(
                {"note": f"the cluster has room for {places} workers, and {allowed[-1]} must begin at least: waiting"}
            )
        time.sleep(0.5)
    return allowed[-1]
