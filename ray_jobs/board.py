"""The live table of `reprise reproduce`: one row for each seed, read from the run folders."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ray_jobs.results import main_metric, short
from ray_jobs.run import Run
from ray_jobs.seeds import Seed, last_lines

LOOK = 0.5
"""Seconds between two looks into a seed's folder."""
Tell = Callable[[Seed, str], None]


def glance(run: Run, wanted: str) -> dict[str, Any]:
    """Where a run is: `step`, `steps` and `note`, its result, or newest metric, in words; what is not known yet is left out."""
    found: dict[str, Any] = {}
    with contextlib.suppress(ValueError):
        status = run.read("status.json") or {}
        found = {k: status[k] for k in ("step", "steps") if status.get(k)}
    said: dict[str, Any] = {}
    for line in last_lines(run.path / "metrics.jsonl", 1):
        with contextlib.suppress(ValueError):  # a line that is being written
            said = json.loads(line)
            found["step"] = max(found.get("step", 0), said["step"])
    if result := run.result:
        said = result["metrics"]
    if said:
        key = main_metric(said, wanted)
        found["note"] = f"{key} {short(said[key])}" if key else ""
    return found


@contextlib.contextmanager
def board(seeds: Sequence[Seed], wanted: dict[str, str]) -> Iterator[Tell]:
    """A table with a row for each seed; it gives what to call with a seed and its state.

    Where the output is no terminal, one plain line for each change of state.

    Args:
        wanted: the claim's metric of each recipe.
    """
    from rich.console import Console

    console = Console(highlight=False)
    draw = _live(seeds, wanted, console) if console.is_terminal else _plain(wanted, console)
    with draw as tell:
        yield tell


@contextlib.contextmanager
def _live(seeds: Sequence[Seed], wanted: dict[str, str], console: Any) -> Iterator[Tell]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [
        TextColumn("[bold]{task.description}"),
        TextColumn("{task.fields[state]}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("[cyan]{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("[dim]left"),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=console, refresh_per_second=4) as bar:
        rows = {s: bar.add_task(str(s), total=None, start=False, state="waiting", note="") for s in seeds}
        looked: dict[Seed, float] = {}

        def tell(seed: Seed, state: str) -> None:
            if state == "running" and time.monotonic() - looked.get(seed, -LOOK) < LOOK:
                return
            if seed not in looked:
                bar.start_task(rows[seed])
            looked[seed] = time.monotonic()
            seen = glance(seed.run, wanted[seed.recipe])
            bar.update(
                rows[seed],
                completed=seen.get("step"),
                total=seen.get("steps"),
                state=_coloured(state),
                note=seen.get("note", ""),
            )
            if state != "running":
                bar.stop_task(rows[seed])

        yield tell


def _coloured(state: str) -> str:
    colour = {"finished": "green", "failed": "red", "stopped": "yellow"}.get(state, "default")
    return f"[{colour}]{state}[/{colour}]"


@contextlib.contextmanager
def _plain(wanted: dict[str, str], console: Any) -> Iterator[Tell]:
    told: dict[Seed, str] = {}

    def tell(seed: Seed, state: str) -> None:
        if told.get(seed) != state:
            told[seed] = state
            note = glance(seed.run, wanted[seed.recipe]).get("note", "")
            console.print(f"{seed}: {state}  {note}".rstrip(), markup=False, soft_wrap=True)

    yield tell
