"""Watch for the head of a Ray cluster: without it, nothing on the cluster continues."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

from ray_jobs.distributed.connection import _unanswered

HEAD_PAUSE = 2.0
"""Seconds between two looks at whether the head of a cluster is there."""


HEAD_LIMIT = 30.0
"""Seconds without an answer after which the head is given up; Ray itself would end this process after 60, without a message."""


@contextlib.contextmanager
def head_watched(lost: Callable[[str], None]) -> Iterator[None]:
    """Inside the block, call `lost` with a sentence, from another thread, when the head of our cluster is gone.

    A call to Ray may then wait for ever: `lost` can only show the sentence and end the process.
    """
    over = threading.Event()
    threading.Thread(target=_watch_head, args=(over, lost), daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _watch_head(over: threading.Event, lost: Callable[[str], None]) -> None:
    seen = time.monotonic()
    while not over.wait(HEAD_PAUSE):
        now = time.monotonic()
        if not head_is_gone():
            seen = now
        elif now - seen > HEAD_LIMIT:
            lost(
                f"The head of the Ray cluster at {_head()} has not answered for {HEAD_LIMIT:.0f} s: it died, or is cut off from here."
            )
            return


def head_is_gone() -> bool:
    """Whether the head of the cluster that we are connected to does not answer now."""
    return _unanswered(_head(), 2) is not None


def _head() -> str:
    """The address of the head, where this process is connected to one without Ray's own client between."""
    ray = sys.modules.get("ray")
    with contextlib.suppress(Exception):  # Ray may be on its way up or down
        return ray.get_runtime_context().gcs_address if ray and ray.is_initialized() else ""
    return ""
