"""The results of a search: the table, best.yaml, trials.json and .csv, the plot, and what to do next."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import replace
from pathlib import Path

from ray_jobs.terminal import console
from ray_jobs.tune import trials
from ray_jobs.tune.leaderboard import Leaderboard, ends, reached
from ray_jobs.tune.trials import Trial

SHOWN = 20
"""Rows of the last table; trials.csv has all."""


def shown_path(out: Path) -> str:
    """A path as it is printed: relative to the working directory where it is inside it."""
    with contextlib.suppress(ValueError):
        return str(out.relative_to(Path.cwd()))
    return str(out)


def conclude(board: Leaderboard, out: Path, interrupted: bool, quiet: bool) -> int:
    """Write the files of a search and print its table. The exit code: 0, 1 where no trial finished, 130 where it was interrupted."""
    search, ranked, top = board.search, board.ranked(), board.best()
    trials.save_all(out, ranked)
    if top:
        method = f"{search.scheduler}, {search.search} search"
        about = f"{search.recipe}: trial {top.name} of {search.trials} ({method}), {reached(top, search)}"
        if top.history:
            about += f"; its settings changed on the way, these are the last ones: it {', '.join(top.history)}"
        trials.save_best(out, top, search.settings, about)
    logarithmic = [name for name, d in search.dimensions.items() if d.form.startswith("log")]
    picture = trials.plot(out, ranked, search.measured, search.mode, logarithmic)
    if not quiet:
        _print(board, out, ranked, top, interrupted, picture)
    return 130 if interrupted else 0 if any(t.state == "finished" for t in ranked) else 1


def _print(
    board: Leaderboard, out: Path, ranked: list[Trial], top: Trial | None, interrupted: bool, picture: Path | None
) -> None:
    search, path = board.search, shlex.quote(shown_path(out))
    lines = console(soft_wrap=True, markup=False)
    rows = [replace(t, state="unfinished") if t.state == "running" else t for t in ranked[:SHOWN]]
    lines.print(trials.table(rows, search.measured, search.logged, f"{search.recipe}, best first"))
    if len(ranked) > SHOWN:
        lines.print(f"and {len(ranked) - SHOWN} more: {path}/trials.csv has all")
    lines.print(f"\n{_counted(ranked, search.trials)}")
    if top:
        lines.print(f"Best: trial {top.name}, {reached(top, search)}.  Its run: {path}/trials/{top.name}")
        if search.measured_on == "validation":
            lines.print(
                "This score chose the settings, so it flatters them: train again to measure them on the test part."
            )
        lines.print(f"Train with its settings: reprise train {search.recipe} --config {path}/best.yaml")
    else:
        lines.print("No trial finished; the table says why, and each trial's log.txt says more.")
    if picture:
        lines.print(f"Plot: {path}/{picture.name}")
    if interrupted:
        lines.print(f"Stopped. Continue with the same command, or: reprise tune {search.recipe} --resume {path}")


def _counted(found: list[Trial], total: int) -> str:
    """How the trials ended, in one sentence."""
    finished = sum(t.state == "finished" for t in found)
    left = total - sum(t.done for t in found)
    parts = [f"{finished} finished", ends(found), f"{left} unfinished" if left else ""]
    return f"{total} trials: {', '.join(filter(None, parts))}."
