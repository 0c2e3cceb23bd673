"""Train a recipe: make the run folder, choose where it runs, and train to the result, or to a checkpoint to continue from."""

from __future__ import annotations

import contextlib
import os
import signal
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from cluster.hiding import hide
from cluster.trust import ADDRESSES, remember
from ray_jobs.distributed.connection import cluster_address, refuse_unknown
from ray_jobs.distributed.head import head_watched
from ray_jobs.envs.failures import EnvironmentFailed
from ray_jobs.errors import Failed, UsageError
from ray_jobs.recipe import trusted
from ray_jobs.recipe.loading import engine, kind, recipe
from ray_jobs.recipe.settings import check
from ray_jobs.recipe.spec import Spec
from ray_jobs.run import job_context
from ray_jobs.run.files import opened
from ray_jobs.run.folder import Run, folder_of
from ray_jobs.run.progress import Event, Report, noise_to, silent
from ray_jobs.run.provenance import now
from ray_jobs.run.signals import Stop, stopping
from ray_jobs.train import start
from ray_jobs.train.earlier import current_spec, data_found, relocate


class Stopped(Exception):
    """A signal or a scheduler stopped the run, which has saved what it needs to continue.

    Args:
        run: the run.
        number: of the signal.
        at_once: whether it had no time to save: what it learned since its newest checkpoint is gone.
    """

    def __init__(self, run: Run, number: int, at_once: bool = False) -> None:
        self.run, self.signal = run, number
        super().__init__(
            f"Stopped at once. {_kept(run)}" if at_once else f"Stopped. Everything is saved; {_continue(run)}"
        )


def _kept(run: Run) -> str:
    """What is left of a run that could not save, and the command for it."""
    if run.result:
        return f"It is finished; what {run} lacks is sent by: reprise resume {run}" if run.uri else "It is finished."
    newest = next((run.step_of(path) for path in run.checkpoints()), 0)
    what = f"continues from its checkpoint of step {newest}" if newest else "has no checkpoint yet and starts again"
    return f"It {what}; {_continue(run)}"


def _continue(run: Run) -> str:
    return f"continue with: reprise resume {run}"


def launch(spec: Spec, *, report: Report = silent, command: list[str] | None = None) -> Run:
    """Train `spec` in a new run folder, to the end; a later attempt of the same job continues the run of the first.

    Returns:
        the finished run; `run.result` has its metrics.

    Raises:
        UsageError: the spec is wrong; nothing was started.
        Stopped: a signal stopped it; it can be resumed.
        Failed: it cannot continue; status.json and the log have the reason.
    """
    settings = check(spec.recipe, spec.settings, spec.where)
    if cluster_address(spec.where.address) and spec.where.address:
        remember(spec.where.address, ADDRESSES)
    spec = start.resolved(replace(spec, settings=settings))
    run = earlier_attempt(spec)
    if run is None:
        run = create(spec, command, report)
        return run_to_end(run, spec, report)
    earlier = replace(run.spec, where=replace(run.spec.where, address=spec.where.address))
    return run if run.result else run_to_end(run.lock(), earlier, report)


def create(spec: Spec, command: list[str] | None, report: Report = silent) -> Run:
    """The new, locked run folder of a spec.

    Raises:
        UsageError: the folder already holds a run, or cannot be written.
    """
    trusted.remember(spec.recipe)
    kind_of = kind(recipe(spec.recipe)).__name__
    return Run.create(spec, kind=kind_of, command=command, started_from=start.provenance(spec, report))


def earlier_attempt(spec: Spec) -> Run | None:
    """The run that an earlier attempt of this job started; None without one."""
    run = Run.at(folder_of(spec))
    if not job_context.job() or not run.exists():
        return None
    run = Run.open(str(run))
    return run if (run.read("run.json") or {}).get("job") == job_context.job() else None


def resume(
    location: str, *, report: Report = silent, address: str | None = None, moved: Mapping[str, Any] | None = None
) -> Run:
    """Continue the run at `location` from its newest checkpoint, bit for bit as if it had never stopped.

    Args:
        address: another Ray cluster than the one where it started; 'local' is this machine alone.
        moved: settings that name data which lie elsewhere now.

    Raises:
        UsageError: there is no run, it is finished, an earlier version wrote it, another process is at work in it, or it names the
            address of a cluster that this user never gave.
        Stopped, Failed: as for `launch`.
    """
    run = Run.open(location)
    if run.result:
        run.push()  # what its address could not take when it ended
        raise UsageError(f"{run} is finished: there is nothing to resume. 'reprise evaluate {run}' measures it again.")
    run.moved = dict(moved or {})
    spec = current_spec(run)
    if address is not None and cluster_address(address):
        remember(address, ADDRESSES)
    refuse_unknown(spec.where.address if address is None else None)
    where = spec.where if address is None else replace(spec.where, address=address)
    run.lock()
    relocate(run)
    with data_found(run):
        return run_to_end(run, replace(spec, where=where), report)


def run_to_end(run: Run, spec: Spec, report: Report, stop_requested: Callable[[], bool] = lambda: False) -> Run:
    """Train in an open, locked run folder until it is finished; its status is right however this ends.

    Args:
        stop_requested: asked regularly; like a signal, True saves and stops the run.
    """
    stop = Stop()
    with os.fdopen(os.dup(2), "wb", 0) as terminal:
        try:
            with stopping(lambda: _patience(stop, terminal), stop):
                return _to_end(run, spec, report, stop, stop_requested)
        except KeyboardInterrupt:  # a second Ctrl-C while the end of the run was recorded
            raise Stopped(run, signal.SIGINT, at_once=True) from None


def _to_end(run: Run, spec: Spec, report: Report, stop: Stop, stop_requested: Callable[[], bool]) -> Run:
    steps = spec.settings.get("steps", 0)
    at = (run.last() or {"step": 0})["step"]
    state = "failed"
    run.status("running", at, steps)
    try:
        run.report = noting(report, run.path / "log.txt")
        with noise_to(run.path / "log.txt") as stderr, head_watched(lambda why: end(run, why, stderr)):
            train = engine(recipe(spec.recipe)).train
            done = train(run, spec, run.report, lambda: stop.is_set() or stop_requested())
        if not done:
            state = "stopped"
            raise Stopped(run, stop.number)
        state = "finished"
        return run
    except (UsageError, Failed, Stopped):
        raise
    except BaseException as error:
        if stop.at_once or isinstance(error, KeyboardInterrupt):
            state = "stopped"
            raise Stopped(run, signal.SIGINT, at_once=True) from None
        if not isinstance(error, Exception):
            raise
        raise _failure(error, run) from error
    finally:
        try:
            if state != "finished" and not run.result:
                mark_unfinished(run, state, steps)
        finally:
            run.release()


def _patience(stop: Stop, terminal: IO[bytes]) -> None:
    """Tell the user who pressed Ctrl-C that the run is saved first, and how to stop it at once."""
    if stop.number == signal.SIGINT:
        terminal.write(b"\nStopping: the run saves its state first. Ctrl-C again stops it at once.\n")


def _failure(error: Exception, run: Run) -> Failed:
    """An error of a training as one sentence; where that may not be enough, its trace is written to the log."""
    if isinstance(error, FloatingPointError | OSError):
        return Failed(as_sentence(error, run))
    with contextlib.suppress(OSError), opened(run.path / "log.txt", "a") as log:
        traceback.print_exception(error, file=log)
    first = (str(error).strip() or "no message").splitlines()[0]
    what = "" if isinstance(error, EnvironmentFailed) else f"{type(error).__name__}: "
    return Failed(f"{what}{first} ({run.path / 'log.txt'} has the whole trace.)")


def mark_unfinished(run: Run, state: str, steps: int = 0) -> None:
    """Record that a run did not reach its end.

    Args:
        state: stopped or failed.
        steps: of the whole training, where status.json does not have them yet.
    """
    step = (run.last() or {"step": 0})["step"]
    run.status(state, step, run.progress.get("steps", steps))
    with contextlib.suppress(UsageError):  # another process has continued it
        run.mirror.send()


def end(run: Run, why: str, stderr: int) -> None:
    """End this process at once, because the cluster's head is gone, and print how to continue."""
    mark_unfinished(run, "failed")
    os.write(
        stderr,
        f"reprise: {why} On a cluster that is up, continue with: reprise resume {run} --address HOST:PORT\n".encode(),
    )
    os._exit(1)


def as_sentence(error: Exception, run: Run) -> str:
    """An error as one sentence; for a full disk, with the file and what to do."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.strerror} ({error.filename or run.path}): repair it, and continue with: reprise resume {run}"


def noting(report: Report, log: Path) -> Report:
    """A report that passes events on with secrets in their notes hidden, and also writes the notes to the log."""

    def noted(event: Event) -> None:
        if "note" in event:
            event = {**event, "note": hide(event["note"])}
            with contextlib.suppress(OSError), opened(log, "a") as file:
                file.write(f"{now()} {event['note']}\n")
        report(event)

    return noted
