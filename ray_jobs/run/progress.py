"""The terminal's display of a run: what it is doing, how far and how fast it is, and how long it will take."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TextIO

from ray_jobs.errors import printable
from ray_jobs.run.files import opened
from ray_jobs.terminal import console, copy_of_stdout

Event = Mapping[str, Any]
"""{"step", "steps", "rate", "unit", "metrics"}, any of them missing, and "note" for a line that stays."""
Report = Callable[[Event], None]


def silent(event: Event) -> None:
    """A report that shows nothing."""


def brief(value: float) -> str:
    """About three digits of a number."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


@contextlib.contextmanager
def display(title: str, *, quiet: bool = False) -> Iterator[Report]:
    """A report that draws one live line under `title`, or prints plain lines where the output is no terminal.

    It writes to a copy of stdout, and so stays visible while `noise_to` sends everything else to a file.
    """
    if quiet:
        yield silent
        return
    with copy_of_stdout() as out:
        yield from _live(title, out) if out.isatty() else iter([_plain(title, out)])


def _live(title: str, out: TextIO) -> Iterator[Report]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [
        SpinnerColumn(),
        TextColumn("{task.description}", style="bold", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}", markup=False),
        TextColumn("{task.fields[note]}", style="cyan", markup=False),
        TimeElapsedColumn(),
        TextColumn("[dim]left"),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=console(out), redirect_stdout=False, redirect_stderr=False) as bar:
        task = bar.add_task(title, total=None, speed="", note="starting")

        def report(event: Event) -> None:
            if "note" in event:
                bar.console.print(f"  {printable(event['note'])}", markup=False)
            if "step" in event:
                bar.update(task, completed=event["step"], total=event.get("steps"), **_texts(event))

        yield report


def _texts(event: Event) -> dict[str, str]:
    speed = f"{brief(event['rate'])} {event.get('unit', 'steps')}/s" if event.get("rate") else ""
    shown = list(event.get("metrics", {}).items())[:2]
    return {"speed": speed, "note": "  ".join(f"{k.removeprefix('train/')} {brief(v)}" for k, v in shown)}


def _plain(title: str, out: TextIO) -> Report:
    shown, lines = -1, console(out, markup=False, soft_wrap=True)

    def report(event: Event) -> None:
        nonlocal shown
        if "note" in event:
            lines.print(printable(f"{title}: {event['note']}"))
        tenth = 10 * event["step"] // event["steps"] if event.get("steps") else -1
        if tenth > shown:
            shown = tenth
            text = _texts(event)
            line = f"{title}: {event['step']}/{event['steps']}  {text['speed']}  {text['note']}"
            lines.print(printable(line.rstrip()))

    return report


@contextlib.contextmanager
def noise_to(log: Path) -> Iterator[int]:
    """Send what libraries print, warn and log to a file, down to the file descriptors; a `display` opened before stays.

    It yields a file descriptor of the stderr from before. Where the folder cannot be written, the output is dropped.

    Raises:
        OSError: the file is a link or no plain file.
    """
    loggers = [logging.getLogger(n) for n in ("lightning", "lightning.pytorch", "lightning.fabric", "ray")]
    with _sink(log) as sink:
        keep = [(fd, os.dup(fd)) for fd in (1, 2)]
        _flush()
        for fd, _ in keep:
            os.dup2(sink.fileno(), fd)
        for logger in loggers:
            logger.handlers, logger.propagate = [logging.StreamHandler(sink)], False
        try:
            yield keep[1][1]
        finally:
            _flush()
            for logger in loggers:
                logger.handlers = []
            for fd, copy in keep:
                os.dup2(copy, fd)
                os.close(copy)


def _sink(log: Path) -> IO[str]:
    try:
        return opened(log, "a", buffering=1)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise
        return open(os.devnull, "w")


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
