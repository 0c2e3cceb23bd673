"""Signal handlers for the length of a block. Off the main thread, where Python allows no handlers, nothing changes."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

STOP = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def handlers_kept(*more: signal.Signals) -> Iterator[None]:
    """Restore the handlers of SIGINT, SIGTERM and `more` after the block, if code inside has set others."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (*STOP, *more)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def calling(handle: Callable[[int], None]) -> Iterator[None]:
    """Inside the block, SIGINT and SIGTERM call `handle` with their number. Enter it after ray.init, which sets handlers of its own."""
    with handlers_kept():
        if threading.current_thread() is threading.main_thread():
            for number in STOP:
                signal.signal(number, lambda n, _: handle(n))
        yield


class Stop(threading.Event):
    """Event that is set by SIGINT or SIGTERM."""

    number: int = signal.SIGINT
    """The signal that set it."""
    at_once: bool = False
    """Whether a second Ctrl-C asked not to wait."""


@contextlib.contextmanager
def stopping(also: Callable[[], Any] = lambda: None, stop: Stop | None = None) -> Iterator[Stop]:
    """Turn the first SIGINT or SIGTERM into a request to stop, and call `also`; a second SIGINT interrupts at once.

    Args:
        also: called after the first of them.
        stop: the event that is set; by default a new one.
    """
    stop = stop or Stop()

    def handle(number: int) -> None:
        if stop.is_set() and number == signal.SIGINT:
            stop.at_once = True
            raise KeyboardInterrupt
        stop.number = number
        stop.set()
        also()

    with calling(handle):
        yield stop


def interrupt(number: int) -> None:
    """For `calling`: end what is running, as Ctrl-C does.

    Raises:
        KeyboardInterrupt: always.
    """
    raise KeyboardInterrupt
