"""Signals: who hears them, and for how long. Off the main thread, where Python allows no handlers, nothing is changed."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

STOP = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def handlers_kept(*more: signal.Signals) -> Iterator[None]:
    """Put back the handlers of SIGINT, SIGTERM and `more` afterwards, whoever has set others."""
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
def heard(wish: Callable[[int], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call `wish` with their number. Entered after ray.init, which sets handlers of its own."""
    with handlers_kept():
        if threading.current_thread() is threading.main_thread():
            for number in STOP:
                signal.signal(number, lambda n, _: wish(n))
        yield


class Stop(threading.Event):
    """Set by SIGINT or SIGTERM; `number` says by which."""

    number: int = signal.SIGINT


@contextlib.contextmanager
def stopping(also: Callable[[], Any] = lambda: None) -> Iterator[Stop]:
    """Turn the first SIGINT or SIGTERM into a wish to stop, and call `also`; a second SIGINT interrupts at once."""
    stop = Stop()

    def wish(number: int) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.number = number
        stop.set()
        also()

    with heard(wish):
        yield stop


def interrupt(number: int) -> None:
    """For `heard`: end what is going on, as Ctrl-C does."""
    raise KeyboardInterrupt
