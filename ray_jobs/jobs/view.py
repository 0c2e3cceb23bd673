"""Output of the job verbs: a table of jobs, one job in full, and a live view."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.job import JOB_VARIABLE, State
from cluster.store import Entry
from ray_jobs.errors import printable
from ray_jobs.jobs.program import argv_of
from ray_jobs.terminal import console

if TYPE_CHECKING:
    from rich.table import Table

Row = tuple[Entry, str]
"""A job's record and its state in words."""
COLOURS = {"succeeded": "green", "failed": "red", "lost": "red", "cancelled": "yellow", "running": "cyan"}
SILENT = "no answer"
"""Shown instead of a state where the job's cluster does not answer."""
NOT_ASKED = "not asked"
"""Shown for a job of someone else that has not ended as far as its record goes: nothing is asked of a cluster that it names."""
WAITED_FOR = (State.pending.value, State.running.value, SILENT)
"""States, in words, of jobs that can still change."""
REFRESH = 1.0
"""Seconds between two updates."""


def print_list(rows: list[Row]) -> None:
    """Print the jobs as a table; without colours or shortened lines where the output is no terminal."""
    if rows:
        _console().print(_table(rows))
    else:
        print("No job matches; `reprise jobs` lists all of them.")


def print_one(entry: Entry, state: str, runs: list[str]) -> None:
    """Print all that is recorded of a job, and how far its runs are where their folders can be read from here."""
    out = _console()
    out.print(f"{entry.id}  {_coloured(state)}  on {_escaped(_where(entry))}")
    for line in _lines(entry, state, runs):
        out.print(f"  {printable(line)}", markup=False)


def watch(look: Callable[[], list[Row]], refresh: float = REFRESH) -> None:
    """Show the jobs until all have ended, or Ctrl-C; where the output is no terminal, print one line for each change."""
    with contextlib.suppress(KeyboardInterrupt):
        (_watch_live if sys.stdout.isatty() else _watch_lines)(look, refresh)


def _watch_live(look: Callable[[], list[Row]], refresh: float) -> None:
    from rich.live import Live

    with Live(console=_console(), auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            rows = look()
            live.update(_table(rows), refresh=True)
            if not _going(rows):
                return
            time.sleep(refresh)


def _watch_lines(look: Callable[[], list[Row]], refresh: float) -> None:
    before: dict[str, str] = {}
    while True:
        rows = look()
        for entry, state in rows:
            if before.get(entry.id) != state:
                line = printable(f"{entry.id} {state} {_where(entry)} {entry.why}")
                print(time.strftime("%H:%M:%S"), line, flush=True)
        before = {entry.id: state for entry, state in rows}
        if not _going(rows):
            return
        time.sleep(refresh)


def _going(rows: list[Row]) -> bool:
    return any(state in WAITED_FOR for _, state in rows)


def _table(rows: list[Row]) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("JOB", "STATE", "ON", "SUBMITTED", "COMMAND"):
        table.add_column(title, overflow="fold", no_wrap=title != "COMMAND")
    for entry, state in rows:
        on = _escaped(entry.profile or entry.on)
        table.add_row(entry.id, _coloured(state), on, _when(entry.submitted), _escaped(_words(entry.command)))
    return table


def _lines(entry: Entry, state: str, runs: list[str]) -> list[str]:
    """The job's known facts, one line each."""
    env = shlex.join(f"{name}={value}" for name, value in entry.env.items() if name != JOB_VARIABLE)
    set_ = ", ".join(f"{name} {_as_text(value)}" for name, value in entry.options.items())
    code = ", ".join(
        filter(None, [entry.commit and f"commit {entry.commit}", entry.version and f"Reprise {entry.version}"])
    )
    lines = [
        f"submitted {_when(entry.submitted)} from {entry.workdir}" + f" ({code})" * bool(code),
        shlex.join(entry.command),
        _resources(entry),
        set_ and f"with {set_}",
        env and f"variables {env}",
        entry.follows and f"continues {entry.follows}",
        _times(entry),
        *(f"run {run}{_progress(run)}" for run in runs),
    ]
    if state == State.lost.value:
        lines.append("It ended without an exit code: the machine went down, or the job was killed from outside.")
    if state in (State.failed.value, State.lost.value):
        lines.append(f"`reprise logs {entry.id}` shows what it printed, `reprise resubmit {entry.id}` continues it.")
    return [line for line in lines if line]


def _resources(entry: Entry) -> str:
    if not entry.resources:
        return ""
    asked = entry.wanted
    memory = f", {asked.memory / 2**30:.3g} GiB" if asked.memory else ""
    return f"{asked.nodes} node{'s' * (asked.nodes != 1)}: {asked.cpus:g} CPUs, {asked.gpus:g} GPUs{memory} of each"


def _times(entry: Entry) -> str:
    """Start, end, attempts and the reason why the job ended."""
    parts = [f"started {_when(entry.started)}"] if entry.started else []
    parts += [f"ended {_when(entry.ended)}"] if entry.ended else []
    parts += [f"{entry.attempts} attempts"] if entry.attempts > 1 else []
    return ", ".join([*parts, *filter(None, [entry.why])])


def _progress(run: str) -> str:
    """How far a run is; '' where its folder cannot be read from here."""
    from ray_jobs.run.folder import Run

    try:
        status = Run(Path(run)).progress if "://" not in run else None
        return f": {status['state']}, step {status['step']} of {status['steps']}" if status else ""
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def _where(entry: Entry) -> str:
    return " ".join(filter(None, [entry.on, entry.profile and f"({entry.profile})", entry.address]))


def _as_text(value: object) -> str:
    return shlex.join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _words(command: tuple[str, ...]) -> str:
    """The command as a user would type it, in one line."""
    return shlex.join(argv_of(command) or command)


def _console() -> Any:
    """A console that writes one line for each job, however long, where the output is no terminal."""
    terminal = sys.stdout.isatty()
    return console(soft_wrap=not terminal, width=None if terminal else 10_000)


def _coloured(state: str) -> str:
    return f"[{COLOURS[state]}]{state}[/]" if state in COLOURS else state


def _escaped(text: str) -> str:
    """Text of a record in a cell: no control characters, and no markup of rich."""
    from rich.markup import escape

    return escape(printable(text))


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
