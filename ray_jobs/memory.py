"""Memory that is freed is soon asked for again."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""glibc's names for what `mallopt` sets."""
TRIM = 128 * 1024
"""Bytes at the end of the heap that glibc keeps by itself."""


def keep_freed(largest: int = 32 * 2**20) -> bool:
    """Let the C library keep freed blocks of up to `largest` bytes, in place of giving them back to the kernel.

    Every update of networks with a few hundred units would else fault the same few hundred pages in anew: a tenth of SAC's time.
    Of a Glow's on small images it is a twentieth.
    What is kept is at most what was once in use. False where the C library is not glibc: nothing is changed then.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(MMAP_THRESHOLD, largest) and mallopt(TRIM_THRESHOLD, 2**31 - 1))


@contextmanager
def freed_kept() -> Iterator[None]:
    """`keep_freed` inside; afterwards what is free goes back to the kernel: a process that trains many in turn does not grow."""
    kept = keep_freed()
    try:
        yield
    finally:
        if kept:
            libc = ctypes.CDLL(None)
            libc.mallopt(TRIM_THRESHOLD, TRIM)
            libc.malloc_trim(0)
