"""The live table of `reprise tune`: the trials, best first, how many are done, and how long the rest will take."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ray_jobs.errors import printable
from ray_jobs.terminal import console, copy_of_stdout
from ray_jobs.tune.search import Search
from ray_jobs.tune.trials import Trial, best, brief, load_all, ranked, table

SHOWN = 12
"""Rows of the live table."""


class Leaderboard:
    """The newest state of all trials; rich can draw it."""

    def __init__(self, search: Search, out: Path) -> None:
        self.search, self.out = search, out
        self.trials = {t.number: t for t in load_all(out)}
        self.done_before, self.began = self._done(), time.monotonic()

    def _done(self) -> int:
        return sum(t.done for t in self.trials.values())

    def hear(self, trial: Trial) -> None:
        """Store the newest state of a trial."""
        self.trials[trial.number] = trial

    def ranked(self) -> list[Trial]:
        """All trials, best first."""
        return ranked(self.trials.values(), self.search.mode, self.search.progress_mode)

    def best(self) -> Trial | None:
        """The best trial so far, see `trials.best`."""
        return best(list(self.trials.values()), self.search.mode, self.search.progress_mode)

    def summary(self) -> str:
        """How many are done, the best, and the time that the rest will take."""
        done, total = self._done(), self.search.trials
        top, passed = self.best(), time.monotonic() - self.began
        parts = [f"{done}/{total} trials{_in_brackets(ends(self.trials.values()))}"]
        if top:
            parts.append(f"best: trial {top.name}, {reached(top, self.search)}")
        if done - self.done_before > 0 and done < total:
            left = passed / (done - self.done_before) * (total - done)
            parts.append(f"about {left:.0f} s left" if left < 120 else f"about {left / 60:.0f} min left")
        return "  ·  ".join(parts)

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        yield table(rows(self.ranked()), self.search.measured, self.search.logged)
        from rich.text import Text

        yield Text(f"\n{self.summary()}  ·  {time.monotonic() - self.began:.0f} s")


def ends(trials: Iterable[Trial]) -> str:
    """How many trials were stopped early or failed, in words; empty where none was."""
    states = [t.state for t in trials]
    words = {"stopped": "stopped early", "failed": "failed"}
    return ", ".join(f"{states.count(state)} {word}" for state, word in words.items() if state in states)


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def rows(ranked: Sequence[Trial]) -> list[Trial]:
    """The rows of the live table: some running trials first, then the best of the others."""
    running = [t for t in ranked if t.state == "running"][: SHOWN // 2]
    return [*running, *(t for t in ranked if t.state != "running")][:SHOWN]


def reached(trial: Trial, search: Search) -> str:
    """The score or progress of a trial, in words."""
    if trial.score is not None:
        return f"{search.measured} {brief(trial.score)}"
    return f"{search.logged} {brief(trial.progress)} after {trial.percent:.0f} %" if trial.reports else "nothing yet"


def say(trial: Trial, search: Search) -> str:
    """One line about a trial that has ended."""
    settings = "  ".join(f"{k}={brief(v)}" for k, v in trial.settings.items())
    what = {"failed": f"failed: {trial.reason}", "stopped": f"stopped early, {reached(trial, search)}"}
    return f"trial {trial.name}: {what.get(trial.state, reached(trial, search))}  ({settings})"


@contextlib.contextmanager
def shown(board: Leaderboard, quiet: bool) -> Iterator[Any]:
    """Show the board live where stdout is a terminal, else a line for each trial that ends.

    It yields the function to call with a trial's newest state.
    """
    with copy_of_stdout() as out:
        if quiet:
            yield board.hear
        elif out.isatty():
            from rich.live import Live

            with Live(board, console=console(out), refresh_per_second=4, redirect_stdout=False, redirect_stderr=False):
                yield board.hear
        else:
            yield _plainly(board, out)


def _plainly(board: Leaderboard, out: Any) -> Any:
    lines = console(out, markup=False, soft_wrap=True)
    printed = {t.number for t in board.trials.values() if t.done}

    def hear(trial: Trial) -> None:
        board.hear(trial)
        if trial.done and trial.number not in printed:
            printed.add(trial.number)
            lines.print(printable(f"{say(trial, board.search)}  [{board.summary()}]"))

    return hear
