"""Private and platform interfaces that we use, in one place; tests/ray_jobs/test_compat.py fails when one of them is gone.

It imports nothing of ours. Each function names the version that it was written for.
"""

from __future__ import annotations

import _signal
import ctypes
from typing import Any

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Parameters of glibc's `mallopt` (malloc.h)."""
HUGE_PAGES = 14
"""Linux's MADV_HUGEPAGE (sys/mman.h)."""
PAGE = 4096
"""Bytes in a page."""


def set_handler(number: int, handler: Any) -> Any:
    """As `signal.signal`, without 3 microseconds of conversions to enums: runners set a handler for each fragment.

    Args:
        handler: what `signal.signal` takes or `set_handler` returns; None, which it returns for a handler of C code, is the default.

    Seen: CPython 3.11, whose `signal.signal` wraps `_signal.signal`.
    """
    return _signal.signal(number, _signal.SIG_DFL if handler is None else handler)


def mallopt(parameter: int, value: int) -> bool:
    """Set a parameter of the C library's allocator; False where there is no mallopt or it refuses.

    Seen: glibc 2.36. musl and macOS have none.
    """
    function = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(function and function(parameter, value))


def malloc_trim() -> None:
    """Return freed memory to the kernel; nothing where the C library cannot. Seen: glibc 2.36."""
    function = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if function:
        function(0)


def huge_pages_at_top(block: int, room: int, step: int) -> None:
    """Grow the heap by `room` bytes in huge pages where the kernel gives them on request. Seen: glibc 2.36, Linux 6.

    Args:
        block: bytes to allocate, so many that the heap must grow.
        room: by how many bytes it grows this time.
        step: by how many bytes it grows later.
    """
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.mallopt(TOP_PAD, room)
    start = libc.malloc(ctypes.c_size_t(block))
    libc.mallopt(TOP_PAD, step)
    if start:
        libc.madvise(ctypes.c_void_p(-(-start // PAGE) * PAGE), ctypes.c_size_t(room), HUGE_PAGES)
        libc.free(ctypes.c_void_p(start))


def actor_ready(handle: Any) -> Any:
    """A reference that resolves when the process of a Ray actor has started. Seen: Ray 2.60, a method of every actor."""
    return handle.__ray_ready__.remote()


def failed_to_start(ended: Exception | None) -> bool:
    """Whether the error of a Ray Train run says that its workers never started: no room within Ray's minute, or lost at once.

    Seen: Ray 2.60, `ray.train.v2._internal.exceptions.WorkerGroupStartupTimeoutError` and `WorkerGroupStartupFailedError`.
    """
    return type(getattr(ended, "controller_failure", None)).__name__.startswith("WorkerGroupStartup")


def flop_counter() -> Any:
    """Torch's counter of floating-point operations, without its tracker of modules, whose hooks refuse gradients of gradients.

    Seen in torch 2.13: `FlopCounterMode` has `mod_tracker`, a context with `parents`, the names under which it counts.
    """
    from contextlib import nullcontext

    from torch.utils.flop_counter import FlopCounterMode

    counter, tracker = FlopCounterMode(display=False), nullcontext()
    tracker.parents = {"Global"}  # type: ignore[attr-defined]
    counter.mod_tracker = tracker  # type: ignore[assignment]
    return counter
