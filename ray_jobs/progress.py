"""What the terminal shows while a run goes on: what it is doing, how far it is, how fast, and how long it will take."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

Event = Mapping[str, Any]
"""{"step", "steps", "rate", "unit", "metrics"}, any of them missing, and "note" for a line that stays."""
Report = Callable[[Event], None]


def silent(event: Event) -> None:
    """A report that nobody reads."""


def brief(value: float) -> str:
    """About three digits of a number."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


@contextlib.contextmanager
def display(title: str, *, quiet: bool = False) -> Iterator[Report]:
    """A report that draws one live line under `title`; plain lines where the output is no terminal."""
    if quiet:
        yield silent
    elif sys.stdout.isatty():
        yield from _live(title)
    else:
        yield _plain(title)


def _live(title: str) -> Iterator[Report]:
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
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TextColumn("[cyan]{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("[dim]left"),
        TimeRemainingColumn(elapsed_when_finished=False),
    ]
    with Progress(*columns, refresh_per_second=8) as bar:
        task = bar.add_task(title, total=None, speed="", note="starting")

        def report(event: Event) -> None:
            if "note" in event:
                bar.console.print(f"  {event['note']}", highlight=False)
            if "step" in event:
                bar.update(task, completed=event["step"], total=event.get("steps"), **_texts(event))

        yield report


def _texts(event: Event) -> dict[str, str]:
    speed = f"{brief(event['rate'])} {event.get('unit', 'steps')}/s" if event.get("rate") else ""
    shown = list(event.get("metrics", {}).items())[:2]
    return {"speed": speed, "note": "  ".join(f"{k.removeprefix('train/')} {brief(v)}" for k, v in shown)}


def _plain(title: str) -> Report:
    said = -1

    def report(event: Event) -> None:
        nonlocal said
        if "note" in event:
            print(f"{title}: {event['note']}", flush=True)
        if "step" in event and event.get("steps"):
            tenth = 10 * event["step"] // event["steps"]
            if tenth > said:
                said = tenth
                text = _texts(event)
                print(
                    f"{title}: {event['step']}/{event['steps']}  {text['speed']}  {text['note']}".rstrip(), flush=True
                )

    return report


@contextlib.contextmanager
def noise_to(log: Path) -> Iterator[None]:
    """Send what libraries print, warn and log to a file, down to file descriptor 2; our own lines on stdout stay."""
    import logging

    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    keep = os.dup(2)
    with open(log, "a", buffering=1) as sink:
        os.dup2(sink.fileno(), 2)
        loggers = [logging.getLogger(n) for n in ("lightning", "lightning.pytorch", "lightning.fabric", "ray")]
        try:
            for logger in loggers:
                logger.handlers = [logging.StreamHandler(sink)]
                logger.propagate = False
            yield
        finally:
            for logger in loggers:
                logger.handlers = []
            os.dup2(keep, 2)
            os.close(keep)
