"""Memory that is freed is soon asked for again."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""glibc's names for what `mallopt` sets."""
HUGE_PAGES = 14
"""Linux's name for what `madvise` tells."""
TRIM = 128 * 1024
"""Bytes at the end of the heap that glibc keeps by itself, and by which it grows."""
PAGE, ROOM = 4096, 2**28
"""Bytes in a page, and that the heap grows by at once for huge ones."""


def keep_freed(largest: int = 32 * 2**20) -> bool:
    """Let the C library keep freed blocks of up to `largest` bytes, in place of giving them back to the kernel.

    Every update of networks with a few hundred units would else fault the same few hundred pages in anew: a tenth of SAC's time.
    Of a Glow's on small images it is a twentieth. Where the kernel gives pages of 2 MB to who asks, the next quarter of a gigabyte
    that the heap grows by has them: a processor finds numbers in those sooner, a fifteenth of the time of 64 seeds' PPO.
    What is kept is at most what was once in use. False where the C library is not glibc: nothing is changed then.
    """
    libc = ctypes.CDLL(None)
    mallopt = getattr(libc, "mallopt", None)
    if not (mallopt and mallopt(MMAP_THRESHOLD, largest) and mallopt(TRIM_THRESHOLD, 2**31 - 1)):
        return False
    libc.malloc.argtypes, libc.malloc.restype, libc.free.argtypes = (
        [ctypes.c_size_t],
        ctypes.c_void_p,
        [ctypes.c_void_p],
    )
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    mallopt(TOP_PAD, ROOM)
    block = libc.malloc(
        largest - PAGE
    )  # the heap grows by it and by the room; nothing is in memory before it is written
    mallopt(TOP_PAD, TRIM)
    if block:
        libc.madvise(-(-block // PAGE) * PAGE, ROOM, HUGE_PAGES)
        libc.free(block)
    return True


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
