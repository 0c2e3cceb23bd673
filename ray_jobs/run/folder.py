"""The run folder: everything that a run of a recipe writes, and all that is needed to continue it.

    run.json        recipe, settings, seed, where, command, versions, git commit, host: written once
    status.json     state, step, pid: rewritten as the run goes
    metrics.jsonl   one line for each logged step; readable while it runs, TensorBoard events are next to it
    checkpoints/    step-00001000.ckpt, written aside and then renamed; the newest two are kept
    result.json     final metrics: its presence means that the run is finished

A folder at a remote address (any fsspec or pyarrow URI) is worked on in a local copy, which is pushed at every checkpoint and at
the end: object stores cannot append, and a training step must not wait for one.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import shlex
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from cluster.hiding import hide_command
from ray_jobs.errors import UsageError
from ray_jobs.recipe.spec import Spec
from ray_jobs.run import checkpoint, job_context
from ray_jobs.run.files import sweep, write_json
from ray_jobs.run.metrics_log import MetricsLog, backwards, cut_after, forwards
from ray_jobs.run.mirror import Mirror, NoMirror
from ray_jobs.run.progress import Report, silent
from ray_jobs.run.provenance import git_commit, now, versions

KEPT = 2
Fields = Mapping[str, type | tuple[type, ...]]
"""Names that a checkpoint must hold, and their types."""
NO_FIELDS: Fields = {}


HELD: set[io.TextIOWrapper] = set()
"""The lock files that this process holds."""


def _let_go() -> None:
    """In a forked child, close the parent's locks, which would otherwise be held until the child ends."""
    for lock in HELD:
        lock.close()
    HELD.clear()


os.register_at_fork(after_in_child=_let_go)


def folder_of(spec: Spec) -> str:
    """The folder of the run of `spec`: `spec.out`, or runs/<recipe>-seed<seed>-<time>; in a job, the job's id instead of the time."""
    stamp = job_context.job() or datetime.now().strftime("%Y%m%d-%H%M%S")
    return spec.out or f"runs/{spec.recipe.split('.')[-1]}-seed{spec.seed}-{stamp}"


class Run:
    """One run folder. Open it with `Run.create` or `Run.open`, which refuse wrong folders.

    Args:
        path: the folder on this machine.
        uri: the remote address that it mirrors, or None.
    """

    def __init__(self, path: Path, uri: str | None = None) -> None:
        self.path, self.uri = path, uri
        self.notes: list[str] = []
        self.used: Path | None = None
        self.report: Report = silent
        self._lock: io.TextIOWrapper | None = None
        self._metrics_log = MetricsLog(path)
        self.mirror: Mirror | NoMirror = NoMirror()
        if uri:
            self.mirror = Mirror(path, uri, lambda note: self.report({"note": note}))
        self._before, self._start = 0.0, time.monotonic()

    # ---- making and finding

    @classmethod
    def create(
        cls, spec: Spec, *, kind: str, command: list[str] | None = None, started_from: Mapping[str, Any] | None = None
    ) -> Run:
        """A new folder for `spec`, at `folder_of(spec)`.

        Args:
            kind: name of the plan's kind.
            command: the command line, as run.json shows it; by default this process's own.
            started_from: the runs and checkpoints that parts of the model start from.

        Raises:
            UsageError: the folder already holds a run, or cannot be written.
        """
        run = cls.at(folder_of(spec))
        if run.exists():
            raise UsageError(
                f"{run} already holds a run: continue it with 'reprise resume {run}', or choose another --out."
            )
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            run.lock()
            record = asdict(spec) | {"out": str(run), "kind": kind, "started": now(), "host": socket.gethostname()}
            record |= {"job": job_context.job()} if job_context.job() else {}
            record |= {"started_from": dict(started_from)} if started_from else {}
            record |= {
                "command": shlex.join(hide_command(command or sys.argv)),
                "versions": versions(),
                "git": git_commit(),
            }
            write_json(run.path / "run.json", record)
        except OSError as error:
            raise UsageError(
                f"The run folder {run} cannot be written ({error.strerror}): choose another --out."
            ) from None
        return run

    @classmethod
    def at(cls, location: str | Path) -> Run:
        """The folder at a path or URI, whatever it holds."""
        text = str(location)
        if "://" not in text:
            return cls(Path(text))
        tag = sha256(text.encode()).hexdigest()[:16]
        cache = Path(os.environ.get("REPRISE_CACHE", Path(tempfile.gettempdir()) / f"reprise-{os.getuid()}"))
        return cls(cache / tag, text.rstrip("/"))

    @classmethod
    def open(cls, location: str | Path) -> Run:
        """An existing run; a remote one is fetched first.

        Raises:
            UsageError: there is no run at `location`.
        """
        run = cls.at(location)
        run.pull()
        if not (run.path / "run.json").is_file():
            raise UsageError(f"{location} is not a run folder: it holds no run.json. 'reprise train' makes one.")
        run._before = (run.last() or {"time": 0.0})["time"]
        return run

    def exists(self) -> bool:
        """Whether the folder, or the remote one that it mirrors, holds a run already."""
        return self.mirror.exists("run.json") if isinstance(self.mirror, Mirror) else (self.path / "run.json").exists()

    def lock(self) -> Run:
        """Lock the folder until this process ends, however it ends; a remote folder, until another process takes it.

        Raises:
            UsageError: another process uses it, or its address cannot be used now.
        """
        self._lock = open(self.path / ".lock", "w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"Another process is at work in {self}: wait for it, or choose another --out.") from None
        HELD.add(self._lock)
        self.mirror.claim()
        sweep(self.path)
        sweep(self.path / "checkpoints")
        return self

    def release(self) -> None:
        """Unlock the folder and close its files."""
        self._metrics_log.close()
        if self._lock is not None:
            HELD.discard(self._lock)
            self._lock.close()
        self._lock = None

    def __str__(self) -> str:
        return self.uri or str(self.path)

    # ---- reading

    def read(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the folder, or None."""
        try:
            return json.loads((self.path / name).read_text())
        except FileNotFoundError:
            return None

    @property
    def spec(self) -> Spec:
        """The recipe, settings, seed and placement that run.json records."""
        return Spec.of(self.read("run.json") or {})

    @property
    def result(self) -> dict[str, Any] | None:
        """The content of result.json; None while the run is not finished."""
        return self.read("result.json")

    def metrics(self) -> Iterator[dict[str, Any]]:
        """The logged lines, oldest first; a line cut off by a kill is skipped."""
        return forwards(self.path / "metrics.jsonl")

    def last(self) -> dict[str, Any] | None:
        """The newest logged line, or None."""
        return next((line for line, _ in backwards(self.path / "metrics.jsonl")), None)

    def pictures(self) -> list[Path]:
        """The PNGs that the run drew, without its learning curve: a model's samples and other pictures, or a study's pictures."""
        samples = self.path / "samples.png"
        if samples.is_file():
            return [samples, *sorted(self.path.glob("samples-*.png"))]
        return [path for path in sorted(self.path.glob("*.png")) if path.name != "curve.png"]

    # ---- writing as it goes

    def elapsed(self) -> float:
        """Seconds of work on this run, earlier attempts included."""
        return self._before + time.monotonic() - self._start

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one line to metrics.jsonl and one event to TensorBoard's file."""
        self._metrics_log.log(step, self.elapsed(), {k: float(v) for k, v in metrics.items()})

    def status(self, state: str, step: int, steps: int, **more: Any) -> None:
        """Write status.json, if the disk allows it; `state` is running, stopped, finished or failed."""
        head = {"state": state, "step": step, "steps": steps, "pid": os.getpid(), "host": socket.gethostname()}
        with contextlib.suppress(OSError):
            write_json(self.path / "status.json", head | {"updated": now()} | more)

    def finish(self, metrics: Mapping[str, float], *, step: int, device: str) -> None:
        """Record the final metrics and declare the run finished.

        Raises:
            OSError: the disk is full.
            UsageError: the run's address could not be used for ten minutes; the local copy is whole.
        """
        self._metrics_log.flush()
        record = {
            "metrics": {k: float(v) for k, v in metrics.items()},
            "step": step,
            "seconds": round(self.elapsed(), 2),
        }
        record |= {"finished": now(), "device": device, "cores": os.cpu_count()}
        write_json(self.path / "result.json", record)
        self.status("finished", step, step)
        self.mirror.deliver()

    # ---- checkpoints

    def checkpoints(self) -> list[Path]:
        """The checkpoints, newest first."""
        return sorted((self.path / "checkpoints").glob("step-*.ckpt"), reverse=True)

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint of a step is, or would be."""
        return self.path / "checkpoints" / f"step-{step:010d}.ckpt"

    @staticmethod
    def step_of(path: Path) -> int:
        """The step of a checkpoint's file."""
        return int(path.stem.removeprefix("step-"))

    def save(self, step: int, state: Mapping[str, Any]) -> Path:
        """Keep `state` (tensors and plain types) as the checkpoint of `step`, and the one before it.

        Raises:
            OSError: the disk is full; earlier checkpoints are untouched.
            UsageError: another process has continued the run at its address.
        """
        self._metrics_log.flush()  # no checkpoint is ahead of its metrics
        path = self.checkpoint(step)
        checkpoint.save(path, {**state, "reprise": {"recipe": self.spec.recipe, "step": step}})
        found = self.checkpoints()
        later = [old for old in found if old > path]  # they could not be read when the run continued before them
        for old in later + [old for old in found if old not in later][KEPT:]:
            old.unlink(missing_ok=True)
        self.mirror.send()
        return path

    def load(self, path: Path, fields: Fields = NO_FIELDS) -> dict[str, Any]:
        """Load a checkpoint's state onto the CPU.

        Args:
            fields: that it must have, and their types.

        Raises:
            UsageError: it is damaged, lacks a field, or belongs to another recipe.
        """
        state = checkpoint.load(path)
        written_by = state.get("reprise", {}).get("recipe")
        if written_by is None:
            raise checkpoint.lacking(path, "the name of its recipe")
        if written_by != self.spec.recipe:
            raise UsageError(
                f"The checkpoint {path} was written by the recipe {written_by}, but this run's is {self.spec.recipe}."
            )
        checkpoint.check_fields(path, state, fields)
        return state

    def latest(self, fields: Fields = NO_FIELDS) -> dict[str, Any] | None:
        """The newest checkpoint that can be read, or None where there is none; one that cannot is passed over, and noted.

        Args:
            fields: that it must have, and their types.

        Raises:
            UsageError: no checkpoint can be read.
        """
        problem: UsageError | None = None
        for path in self.checkpoints():
            try:
                state = self.load(path, fields)
            except UsageError as error:
                problem = problem or error
                continue
            self.used = path
            if problem:
                self.note(f"{problem} The one before it that is whole is used: {path.name}.")
            return state
        if problem:
            raise problem
        return None

    def note(self, line: str) -> None:
        """Report a line to the user, and keep it in `notes`."""
        self.notes.append(line)
        self.report({"note": line})

    def trained(self, fields: Fields = NO_FIELDS) -> dict[str, Any]:
        """The newest checkpoint that can be read, of a run that is to be measured or sampled.

        Args:
            fields: that it must have, and their types.

        Raises:
            UsageError: there is none.
        """
        state = self.latest(fields)
        if state is None:
            raise UsageError(f"{self} has no checkpoint yet: train it first, or wait for the first one.")
        return state

    def rewind(self, step: int) -> None:
        """Drop the metrics logged after `step`: they will be logged again."""
        self._metrics_log.close()
        last = cut_after(self.path / "metrics.jsonl", step)
        self._before = (last or {"time": 0.0})["time"]
        self._start = time.monotonic()

    # ---- the mirror

    def push(self) -> None:
        """Send what is new or changed to the remote address, if there is one; see `Mirror.push`."""
        self.mirror.push()

    def pull(self, *, checkpoints: bool = True) -> None:
        """Fetch the remote folder into the local copy; see `Mirror.pull`."""
        self.mirror.pull(checkpoints=checkpoints)
