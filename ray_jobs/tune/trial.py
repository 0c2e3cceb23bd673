"""One trial of a search, as its actor runs it: training in a run folder, reported as it goes, cut short on demand.

It is told how to speak to the scheduler (`Tell`) and does not know Ray. A trial begun before says again what it had
reported, and then goes on from its last checkpoint; one that has ended is not trained again.
"""

from __future__ import annotations

import contextlib
import json
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
from ray_jobs.run.folder import Run
from ray_jobs.run.progress import Event, Report
from ray_jobs.tune import search as searches
from ray_jobs.tune.search import Search
from ray_jobs.tune.trials import Trial, folder, load, save

Tell = Callable[[dict[str, Any], Path | None], None]
"""Metrics, and a checkpoint to go with them. It may raise SystemExit: the trial is then told to stop."""
Train = Callable[[Spec, Report, Callable[[], bool]], object]
"""Trains `spec` in its folder, from its newest checkpoint where there is one; obeys the wish to stop."""

WINDOW = 10.0
"""Percent of the training over which the progress metric is averaged: one mini-batch's loss says little."""
LAST = 99.9
"""What a trial reports at most before its final evaluation."""
SELDOM = 1.0
"""Seconds between two reports that nothing is decided by: each waits for the driver, and a short trial has no time for a hundred."""
PATIENCE = 60.0
"""Seconds to wait for a trial that was told to stop, and for a folder whose last owner is just ending."""


@dataclass(frozen=True)
class Task:
    """What every trial of a search shares."""

    search: Search
    out: str
    train: Train

    def spec(self, trial: Trial) -> Spec:
        search = self.search
        settings = {**searches.saving(search), **search.settings, **trial.settings}
        return Spec(search.recipe, settings, search.seed, search.where, str(folder(Path(self.out), trial.number)))


def run(task: Task, trial: Trial, tell: Tell) -> Trial:
    """Bring one trial to its end, from wherever it is, and report it to the last."""
    at = folder(Path(task.out), trial.number)
    if task.search.scheduler != "pbt":  # a population goes on from where it is; its past decisions stand
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
    score = result["metrics"].get(task.search.metric, math.nan)
    if math.isnan(score):
        why = f"the result has no number '{task.search.metric}'; it has: {', '.join(result['metrics']) or 'none'}"
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
        with open(at / "log.txt", "a") as log:
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
    """Turns what a run logs into at most one report for each percent, and keeps the trial's record.

    What a scheduler decides by is reported in any case, the first of each rung and the last before the evaluation; the rest is there
    for people, and is reported seldom.
    """

    def __init__(self, task: Task, trial: Trial, at: Path, tell: Tell) -> None:
        self.task, self.trial, self.at, self.tell = task, trial, at, tell
        self.values: deque[tuple[float, float]] = deque()
        self.read = 0
        self.before, self.began = trial.seconds, time.monotonic()
        self.told = self.began
        self.checkpoint = self._newest()

    def __call__(self, event: Event) -> None:
        """Hear one event of the training; may raise what `tell` raises."""
        if event.get("steps"):
            for line in self._new_lines():
                self._take(min(LAST, 100.0 * line["step"] / event["steps"]), line)

    def _new_lines(self) -> Iterator[dict[str, Any]]:
        """What was logged since the last look; a line still being written waits for the next."""
        with contextlib.suppress(FileNotFoundError), open(self.at / "metrics.jsonl", "rb") as file:
            file.seek(self.read)
            for line in file:
                if line.endswith(b"\n"):
                    self.read += len(line)
                    yield json.loads(line)

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
        if self.task.search.scheduler == "pbt":  # what a population exchanges are checkpoints
            return last < percent < LAST and self._newest() != self.checkpoint
        if math.floor(percent) <= math.floor(last):
            return False
        decides = percent >= LAST or any(last < rung <= percent for rung in searches.RUNGS)
        return decides or time.monotonic() - self.told >= SELDOM

    def _newest(self) -> Path | None:
        return next(iter(Run(self.at).checkpoints()), None)

    def _report(self, percent: float) -> None:
        value = sum(v for _, v in self.values) / len(self.values)
        self.told = time.monotonic()
        seconds = round(self.before + self.told - self.began, 2)
        self.trial = replace(self.trial, reports=(*self.trial.reports, (percent, value)), seconds=seconds)
        save(self.at, self.trial)
        self.checkpoint = self._newest()
        self.tell({"percent": percent, "progress": value}, self.checkpoint)


def attended(train: Train, spec: Spec, hear: Report) -> None:
    """Train in a thread of its own while this one hears its events; the training waits until it was heard.

    Where `hear` raises (a scheduler that ends the trial raises SystemExit), the training is told to stop and waited
    for, and the exception goes on. An error of the training is raised here.
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
    """The trial as its folder has it, or a new one, whose settings are on disk before anything trains with them."""
    at = folder(out, number)
    trial = load(at)
    if trial is None:
        trial = Trial(number, dict(settings))
        save(at, trial)
    return trial


def train(spec: Spec, report: Report, told_to_stop: Callable[[], bool]) -> None:
    """Train `spec` in its folder, or go on there from the newest checkpoint.

    Raises:
        UsageError, Failed: it cannot go on.
    """
    from ray_jobs.train.earlier import current_spec
    from ray_jobs.train.launch import Stopped, create, run_to_end

    at = Path(str(spec.out))
    if (at / "run.json").exists():
        run = Run.open(at).lock()
    else:
        run = create(spec, as_command(spec))
    with contextlib.suppress(Stopped):
        run_to_end(run, replace(current_spec(run), where=spec.where), report, told_to_stop)


def as_command(spec: Spec) -> list[str]:
    """The command that trains the same by itself."""
    settings = [word for k, v in spec.settings.items() for word in (f"--{k}", str(v))]
    return ["reprise", "train", spec.recipe, *settings, "--seed", str(spec.seed)]
