"""One trial of a search, as its actor runs it: training in a run folder, with reports to a scheduler that may stop it.

A function (`Tell`) reports to the scheduler; nothing here knows Ray. A trial that was started before repeats its earlier reports
and continues from its last checkpoint. A trial that has ended is not trained again.
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ray_jobs.errors import Failed, UsageError
from ray_jobs.recipe.spec import Spec
from ray_jobs.run.files import opened
from ray_jobs.run.folder import Run
from ray_jobs.run.progress import Event, Report
from ray_jobs.run.records import metrics_line
from ray_jobs.tune import search as searches
from ray_jobs.tune.search import Search
from ray_jobs.tune.trials import Trial, folder, load, save

Tell = Callable[[dict[str, Any], Path | None], None]
"""Reports metrics, and a checkpoint to go with them. It raises SystemExit where the trial must stop."""
Train = Callable[[Spec, Report, Callable[[], bool]], object]
"""Trains `spec` in its folder, from its newest checkpoint where there is one; stops where the last argument returns True."""

WINDOW = 10.0
"""Percent of the training over which the progress metric is averaged: one mini-batch's loss says little."""
LAST = 99.9
"""The highest percentage that a trial reports before its final evaluation."""
SELDOM = 1.0
"""Seconds between two reports that decide nothing: each waits for the driver, so a hundred would slow a short trial down."""
PATIENCE = 60.0
"""Seconds to wait for a trial that was asked to stop, and for a folder whose last owner is just ending."""


@dataclass(frozen=True)
class Task:
    """What every trial of a search shares."""

    search: Search
    out: str
    train: Train

    def spec(self, trial: Trial) -> Spec:
        """The run of one trial: the search's settings and the trial's own, in the trial's folder."""
        search = self.search
        settings = {**searches.saving(search), **search.settings, **trial.settings}
        at = str(folder(Path(self.out), trial.number))
        return Spec(search.recipe, settings, search.seed, search.where, at, search.start, search.measured_on)


def run(task: Task, trial: Trial, tell: Tell) -> Trial:
    """Train one trial to its end, from its newest checkpoint, and report its score."""
    at = folder(Path(task.out), trial.number)
    if task.search.scheduler != "pbt":  # a population keeps its earlier decisions
        for percent, value in trial.reports:
            tell({"percent": percent, "progress": value}, None)
    if not trial.done:
        trial = _finished(task, trial, at) or _train(task, trial, at, tell)
    tell({"score": trial.score} if trial.score is not None else {"failed": trial.reason}, None)
    return trial


def _finished(task: Task, trial: Trial, at: Path) -> Trial | None:
    """The finished trial where its run has a result already."""
    result = Run(at).result
    if result is None:
        return None
    score = result["metrics"].get(task.search.metric)
    if not isinstance(score, int | float) or not math.isfinite(score):
        found = "" if score is None else f" but {score}"
        why = (
            f"the result has no number '{task.search.metric}'{found}; it has: {', '.join(result['metrics']) or 'none'}"
        )
        trial = replace(trial, state="failed", reason=why)
    else:
        trial = replace(trial, state="finished", score=score, seconds=result["seconds"])
    save(at, trial)
    return trial


def _train(task: Task, trial: Trial, at: Path, tell: Tell) -> Trial:
    reporter = Reporter(task, trial, at, tell)
    try:
        _wait_for(at)
        attended(task.train, task.spec(trial), reporter)
        done = _finished(task, reporter.trial, at)
    except Exception as error:
        done = replace(reporter.trial, state="failed", reason=_sentence(error))
        save(at, done)
        with opened(at / "log.txt", "a") as log:
            traceback.print_exception(error, file=log)
    if done is None:
        raise RuntimeError(f"the training of trial {trial.name} was interrupted")
    return done


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    return (
        text if isinstance(error, UsageError | Failed | ArithmeticError) and text else f"{type(error).__name__}: {text}"
    )


def _wait_for(at: Path) -> None:
    """Wait while another process still holds the folder: a killed search's actors end a moment after it."""
    at.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + PATIENCE
    while True:
        run = Run(at)
        try:
            run.lock()
            return
        except UsageError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        finally:
            run.release()


class Reporter:
    """Turns logged metrics into at most one report for each percent of the training, and keeps the trial's record.

    Reports that a scheduler needs are always sent: the first of each rung and the last before the evaluation. The others are for people
    and are sent once in `SELDOM` seconds.
    """

    def __init__(self, task: Task, trial: Trial, at: Path, tell: Tell) -> None:
        self.task, self.trial, self.at, self.tell = task, trial, at, tell
        self.values: deque[tuple[float, float]] = deque()
        self.read = 0
        self.before, self.began = trial.seconds, time.monotonic()
        self.reported = self.began
        self.checkpoint = self._newest()

    def __call__(self, event: Event) -> None:
        """Handle one event of the training; raises what `tell` raises."""
        if event.get("steps"):
            for line in self._new_lines():
                self._take(min(LAST, 100.0 * line["step"] / event["steps"]), line)

    def _new_lines(self) -> Iterator[dict[str, Any]]:
        """The lines logged since the last call; a line that is still being written waits for the next call."""
        with contextlib.suppress(FileNotFoundError), opened(self.at / "metrics.jsonl", "rb") as file:
            file.seek(self.read)
            for line in file:
                if line.endswith(b"\n"):
                    self.read += len(line)
                    if found := metrics_line(line):
                        yield found

    def _take(self, percent: float, line: Mapping[str, float]) -> None:
        value = line.get(self.task.search.progress)
        if value is None or not math.isfinite(value):
            return
        self.values.append((percent, value))
        while self.values[0][0] < percent - WINDOW:
            self.values.popleft()
        if self._due(percent):
            self._report(percent)

    def _due(self, percent: float) -> bool:
        last = self.trial.reports[-1][0] if self.trial.reports else -1.0
        if self.task.search.scheduler == "pbt":  # a population exchanges checkpoints
            return last < percent < LAST and self._newest() != self.checkpoint
        if math.floor(percent) <= math.floor(last):
            return False
        decides = percent >= LAST or any(last < rung <= percent for rung in searches.RUNGS)
        return decides or time.monotonic() - self.reported >= SELDOM

    def _newest(self) -> Path | None:
        return next(iter(Run(self.at).checkpoints()), None)

    def _report(self, percent: float) -> None:
        value = sum(v for _, v in self.values) / len(self.values)
        self.reported = time.monotonic()
        seconds = round(self.before + self.reported - self.began, 2)
        self.trial = replace(self.trial, reports=(*self.trial.reports, (percent, value)), seconds=seconds)
        save(self.at, self.trial)
        self.checkpoint = self._newest()
        self.tell({"percent": percent, "progress": value}, self.checkpoint)


def attended(train: Train, spec: Spec, hear: Report) -> None:
    """Train in another thread while this one handles its events; the training waits for each event to be handled.

    Where `hear` raises (a scheduler that ends the trial raises SystemExit), the training is stopped, and the exception is raised again
    when it has ended. An error of the training is raised here.
    """
    inbox: queue.Queue[tuple[Event, threading.Event] | None] = queue.Queue()
    stop, errors = threading.Event(), []

    def on_event(event: Event) -> None:
        if not stop.is_set():
            heard = threading.Event()
            inbox.put((event, heard))
            heard.wait()

    def body() -> None:
        try:
            train(spec, on_event, stop.is_set)
        except BaseException as error:
            errors.append(error)
        finally:
            inbox.put(None)

    thread = threading.Thread(target=body, daemon=True, name=f"train-{spec.out}")
    thread.start()
    while (item := inbox.get()) is not None:
        event, heard = item
        try:
            hear(event)
        except BaseException:
            stop.set()
            raise
        finally:
            heard.set()
            if stop.is_set():
                thread.join(PATIENCE)
    thread.join()
    if errors:
        raise errors[0]


def begin(out: Path, number: int, settings: Mapping[str, Any]) -> Trial:
    """The trial that its folder records, or a new one, whose settings are written before the training starts."""
    at = folder(out, number)
    trial = load(at)
    if trial is None:
        trial = Trial(number, dict(settings))
        save(at, trial)
    return trial


def train(spec: Spec, report: Report, stop_requested: Callable[[], bool]) -> None:
    """Train `spec` in its folder, or continue there from the newest checkpoint.

    Raises:
        UsageError, Failed: it cannot continue.
    """
    from ray_jobs.train.earlier import current_spec
    from ray_jobs.train.launch import Stopped, create, run_to_end

    at = Path(str(spec.out))
    if Run(at).exists():
        run = Run.open(at).lock()
    else:
        run = create(spec, as_command(spec))
    with contextlib.suppress(Stopped):
        run_to_end(run, replace(current_spec(run), where=spec.where), report, stop_requested)


def as_command(spec: Spec) -> list[str]:
    """The command that trains the same outside the search."""
    settings = [word for k, v in spec.settings.items() for word in (f"--{k}", str(v))]
    return ["reprise", "train", spec.recipe, *settings, "--seed", str(spec.seed)]
