"""Who may write to a run: one process at a time, and none that was cut off, was given up, and comes back.

A folder on this machine's or shared storage is locked (`Run.lock`); a remote address has no locks, so whoever takes it leaves a mark
there, and whoever finds another's stops. A group of workers on a cluster writes as long as its driver listens.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from ray_jobs.mirror import filesystem
from ray_jobs.run import Run

WRITER = ".writer.json"
"""At a remote address: who writes there. A name with a dot is never pushed by anybody else."""


class Superseded(Exception):
    """Another process has gone on with the run that this one was at work on."""


def claim(uri: str) -> str:
    """Take a remote folder, from whomever had it; the mark of whoever holds it now.

    Two processes that claim it at the same moment both write a mark, and the later one counts.

    Raises:
        OSError: the storage cannot be written.
    """
    fs, root = filesystem(uri)
    mark = uuid4().hex
    since = datetime.now(UTC).isoformat(timespec="seconds")
    fs.makedirs(root, exist_ok=True)
    held = {"mark": mark, "host": socket.gethostname(), "pid": os.getpid(), "since": since}
    fs.pipe_file(f"{root}/{WRITER}", json.dumps(held).encode())
    return mark


def check(uri: str, mark: str) -> None:
    """Refuse to write where another process has taken over.

    Raises:
        Superseded: another mark is there, or one is being written.
        OSError: the storage cannot be read.
    """
    fs, root = filesystem(uri)
    try:
        held = json.loads(fs.cat_file(f"{root}/{WRITER}"))
    except FileNotFoundError:  # the folder was moved or emptied by hand
        return
    except ValueError:
        held = {}
    if held.get("mark") != mark:
        who = f"process {held['pid']} on {held['host']}, since {held['since']}" if held else "it has just begun"
        raise Superseded(f"Another process has gone on with {uri} ({who}): this one stops, and writes there no more.")


class Fenced(Run):
    """The run folder of a group of workers: before each write `ask` must say that the group still counts, or raise."""

    ask: Callable[[], None]

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.ask()
        super().log(step, metrics)

    def status(self, state: str, step: int, steps: int, **more: Any) -> None:
        self.ask()
        super().status(state, step, steps, **more)

    def save(self, step: int, state: Mapping[str, Any]) -> Any:
        self.ask()
        return super().save(step, state)

    def rewind(self, step: int) -> None:
        self.ask()
        super().rewind(step)

    def finish(self, metrics: Mapping[str, float], *, step: int, device: str) -> None:
        self.ask()
        super().finish(metrics, step=step, device=device)

    def push(self) -> None:
        self.ask()
        super().push()
