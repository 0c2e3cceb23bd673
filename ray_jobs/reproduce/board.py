"""The live table of `reprise reproduce`: a row for each seed, or for the running ones that fit on the screen, read from the run folders."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ray_jobs.reproduce.seeds import Seed
from ray_jobs.results.store import main_metric, short
from ray_jobs.run.files import last_lines
from ray_jobs.run.folder import Run
from ray_jobs.run.records import metrics_line
from ray_jobs.terminal import console

LOOK = 0.5
"""Seconds between two looks into a seed's folder."""
MARGIN = 4
"""Lines of the terminal that the table leaves free."""
Tell = Callable[[Seed, str], None]


def glance(run: Run, wanted: str) -> dict[str, Any]:
    """The progress of a run: `step`, `steps`, and as `note` its result or newest metric; what is not known yet is left out."""
    status = run.progress
    found: dict[str, Any] = {k: status[k] for k in ("step", "steps") if status.get(k)}
    newest: Mapping[str, Any] = {}
    for line in last_lines(run.path / "metrics.jsonl", 1):
        newest = metrics_line(line) or {}  # of a line that is being written there is none
        found["step"] = max(found.get("step", 0), newest.get("step", 0))
    if result := run.result:
        newest = result["metrics"]
    if newest:
        key = main_metric(newest, wanted)
        found["note"] = f"{key} {short(newest[key])}" if key else ""
    return found


@contextlib.contextmanager
def board(seeds: Sequence[Seed], wanted: dict[str, str]) -> Iterator[Tell]:
    """Show a table with a row for each seed, or for the running ones where the terminal is too low for all.

    It yields the function to call with a seed and its state. Where the output is no terminal, each change of state is one line.

    Args:
        wanted: the claim's metric of each recipe.
    """
    out = console()
    draw = _live(seeds, wanted, out) if out.is_terminal else _plain(wanted, out)
    with draw as tell:
        yield tell


@contextlib.contextmanager
def _live(seeds: Sequence[Seed], wanted: dict[str, str], out: Any) -> Iterator[Tell]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [
        TextColumn("{task.description}", style="bold", markup=False),
        TextColumn("{task.fields[state]}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", style="cyan", markup=False),
        TimeElapsedColumn(),
        TextColumn("[dim]left"),
        TimeRemainingColumn(),
    ]

    class Calm(Progress):
        def refresh(self) -> None:
            """Do nothing: `Progress` would draw all rows whenever one is added; they are drawn four times a second instead."""

    with Calm(*columns, console=out, refresh_per_second=4) as bar:
        room = max(1, out.height - MARGIN)
        yield _rows(bar, seeds, wanted) if len(seeds) <= room else _window(bar, len(seeds), wanted, room)


def _rows(bar: Any, seeds: Sequence[Seed], wanted: dict[str, str]) -> Tell:
    """A row for each seed, from the beginning to the end."""
    rows = {s: bar.add_task(str(s), total=None, start=False, state="waiting", note="") for s in seeds}
    looked: dict[Seed, float] = {}

    def tell(seed: Seed, state: str) -> None:
        if seed not in looked:
            bar.start_task(rows[seed])
        if state != "running" or due(looked, seed):
            _show(bar, rows[seed], seed, state, wanted)
        if state != "running":
            bar.stop_task(rows[seed])

    return tell


def _window(bar: Any, count: int, wanted: dict[str, str], room: int) -> Tell:
    """A row for all seeds together, and one for each running seed that fits; only folders of rows on the screen are read."""
    whole = bar.add_task(f"{count} seeds", total=count, state="", note="")
    rows: dict[Seed, Any] = {}
    looked: dict[Seed, float] = {}
    ended: Counter[str] = Counter()

    def tell(seed: Seed, state: str) -> None:
        if state != "running":
            ended[state] += 1
            counts = "  ".join(f"{n} {_coloured(which)}" for which, n in ended.items())
            bar.update(whole, completed=ended.total(), state=counts)
            if seed in rows:
                bar.remove_task(rows.pop(seed))
        elif seed not in rows and len(rows) < room:
            rows[seed] = bar.add_task(str(seed), total=None, state="", note="")
        if seed in rows and due(looked, seed):
            _show(bar, rows[seed], seed, state, wanted)

    return tell


def due(looked: dict[Seed, float], seed: Seed) -> bool:
    """Whether it is time to read a seed's folder again; if so, remember the time."""
    now = time.monotonic()
    if now - looked.get(seed, -LOOK) < LOOK:
        return False
    looked[seed] = now
    return True


def _show(bar: Any, row: Any, seed: Seed, state: str, wanted: dict[str, str]) -> None:
    seen = glance(seed.run, wanted[seed.recipe])
    completed, total, note = seen.get("step"), seen.get("steps"), seen.get("note", "")
    bar.update(row, completed=completed, total=total, state=_coloured(state), note=note)


def _coloured(state: str) -> str:
    colour = {"finished": "green", "failed": "red", "stopped": "yellow"}.get(state, "default")
    return f"[{colour}]{state}[/{colour}]"


@contextlib.contextmanager
def _plain(wanted: dict[str, str], out: Any) -> Iterator[Tell]:
    shown: dict[Seed, str] = {}

    def tell(seed: Seed, state: str) -> None:
        if shown.get(seed) != state:
            shown[seed] = state
            note = glance(seed.run, wanted[seed.recipe]).get("note", "")
            out.print(f"{seed}: {state}  {note}".rstrip(), markup=False, soft_wrap=True)

    yield tell
