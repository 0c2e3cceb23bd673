"""Around a search: an environment for Ray Tune, and an orderly end at Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from typing import Any


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


@contextlib.contextmanager
def interrupts() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM end the search in order: Tune listens for SIGUSR1. A second SIGINT interrupts at once."""
    event = threading.Event()

    def wish(number: int, _: Any) -> None:
        again = event.is_set()
        event.set()
        if again or signal.getsignal(signal.SIGUSR1) in (signal.SIG_DFL, signal.SIG_IGN, None):
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGUSR1)

    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, wish)
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
