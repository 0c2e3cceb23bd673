"""The run folder: everything that a run of a recipe writes, and all that is needed to continue it.

    run.json        recipe, settings, seed, where, command, versions, git commit, host: written once
    status.json     state, step, pid: rewritten as the run goes
    metrics.jsonl   one line for each logged step; readable while it runs, TensorBoard events are next to it
    checkpoints/    step-00001000.ckpt, written aside and then renamed; the newest two are kept, and the best where one is known
    result.json     final metrics: its presence means that the run is finished

A folder at a remote address (any fsspec or pyarrow URI) is worked on in a local copy, which is pushed at every checkpoint and at
the end: object stores cannot append, and a training step must not wait for one.

No link inside the folder is followed (`run.files`), and every record is checked where it is read (`run.records`).
"""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from cluster.hiding import hide_command
from ray_jobs.errors import UsageError
from ray_jobs.recipe.spec import Spec
from ray_jobs.run import checkpoint, job_context, records
from ray_jobs.run.files import listed, remove, sweep, write, write_json
from ray_jobs.run.metrics_log import MetricsLog, backwards, cut_after, forwards
from ray_jobs.run.mirror import Mirror, NoMirror
from ray_jobs.run.place import Place
from ray_jobs.run.private import copy_of
from ray_jobs.run.progress import Report, silent
from ray_jobs.run.provenance import git_commit, now, versions

KEPT = 2
Fields = Mapping[str, type | tuple[type, ...]]
"""Names that a checkpoint must hold, and their types."""
NO_FIELDS: Fields = {}


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
        self.wanted: int | None = None
        """The step of the checkpoint that is measured or sampled; None: the newest."""
        self.best: int | None = None
        """The step of the checkpoint that is kept as the best."""
        self.report: Report = silent
        self.moved: dict[str, Any] = {}
        """Settings that name data which lie elsewhere now; they replace those of run.json."""
        self.place = Place(path, uri or str(path))
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
            record = {"format": records.FORMAT, **asdict(spec), "out": str(run), "kind": kind}
            record |= {"started": now(), "host": socket.gethostname()}
            record |= {"job": job_context.job()} if job_context.job() else {}
            record |= {"started_from": dict(started_from)} if started_from else {}
            record |= {
                "command": shlex.join(hide_command(command or sys.argv)),
                "versions": versions(),
                "git": git_commit(),
            }
            write_json(run.path / "run.json", record)
            run.place.remember()
        except OSError as error:
            raise UsageError(
                f"The run folder {run} cannot be written ({error.strerror}): choose another --out."
            ) from None
        return run

    @classmethod
    def at(cls, location: str | Path) -> Run:
        """The folder at a path or URI, whatever it holds."""
        text = str(location)
        return cls(copy_of(text), text.rstrip("/")) if "://" in text else cls(Path(text))

    @classmethod
    def open(cls, location: str | Path) -> Run:
        """An existing run; a remote one is fetched first.

        Raises:
            UsageError: there is no run at `location`, or the folder holds a link, or run.json is damaged or a newer version's.
        """
        run = cls.at(location)
        run.pull()
        run.place.refuse_links()
        if run.read("run.json") is None:
            raise UsageError(f"{location} is not a run folder: it holds no run.json. 'reprise train' makes one.")
        run.place.remember()
        run._before = (run.last() or {"time": 0.0})["time"]
        return run

    def exists(self) -> bool:
        """Whether the folder, or the remote one that it mirrors, holds a run already.

        Raises:
            UsageError: its address cannot be used now, or its path cannot be.
        """
        return self.mirror.exists("run.json") if isinstance(self.mirror, Mirror) else self.place.holds_run()

    def lock(self) -> Run:
        """Lock the folder until this process ends, however it ends; a remote folder, until another process takes it.

        Raises:
            UsageError: another process uses it, it holds a link or cannot be written, or its address cannot be used now.
        """
        self.place.refuse_links()
        self.place.take()
        self.mirror.claim()
        sweep(self.path)
        sweep(self.path / "checkpoints")
        return self

    def release(self) -> None:
        """Unlock the folder and close its files."""
        self._metrics_log.close()
        self.place.release()

    def __str__(self) -> str:
        return self.uri or str(self.path)

    # ---- reading

    def read(self, name: str) -> dict[str, Any] | None:
        """A record of the folder, one of `records.SCHEMAS`; None where there is none.

        Raises:
            UsageError: it cannot be read, is damaged, or a newer version wrote it.
        """
        if (data := self.place.read(name)) is None:
            return None
        return records.record(data, name, f"{self}/{name}")

    @property
    def progress(self) -> dict[str, Any]:
        """The content of status.json: state, step and steps; empty where there is none, or it is damaged."""
        with contextlib.suppress(UsageError):
            return self.read("status.json") or {}
        return {}

    @property
    def spec(self) -> Spec:
        """The recipe, settings, seed and placement that run.json records, with data where they lie now."""
        if not self.place.record:
            self.place.remember()
        found = Spec.of(records.record(self.place.record, "run.json", f"{self}/run.json"))
        return replace(found, settings={**found.settings, **self.moved})

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
        """What the run drew, but its learning curve: a model's samples and other pictures, a study's pictures, an agent's episodes."""
        found = [path for path in listed(self.path, "*.png") if path.name != "curve.png"] + listed(self.path, "*.gif")
        samples = [path for path in found if path.name == "samples.png"]
        return samples + [path for path in found if not samples or path.name.startswith("samples-")]

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

    def finish(
        self, metrics: Mapping[str, float], *, step: int, device: str, splits: Mapping[str, str] | None = None
    ) -> None:
        """Record the final metrics and declare the run finished.

        Args:
            metrics: by name.
            step: of the checkpoint that they were measured on.
            device: that trained it.
            splits: the part of the data, or the kind of environments, that each metric was measured on.

        Raises:
            OSError: the disk is full.
            UsageError: the run's address could not be used for ten minutes; the local copy is whole.
        """
        self._keep_place()
        record = {
            "metrics": {k: float(v) for k, v in metrics.items()},
            "step": step,
            "seconds": round(self.elapsed(), 2),
        }
        record |= {"splits": dict(splits)} if splits else {}
        record |= {"finished": now(), "device": device, "cores": os.cpu_count()}
        write_json(self.path / "result.json", record)
        self.status("finished", step, step)
        self.mirror.deliver()

    # ---- checkpoints

    def checkpoints(self) -> list[Path]:
        """The checkpoints, newest first."""
        return listed(self.path / "checkpoints", "step-*.ckpt", within=self.path)[::-1]

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint of a step is, or would be."""
        return self.path / "checkpoints" / f"step-{step:010d}.ckpt"

    @staticmethod
    def step_of(path: Path) -> int:
        """The step of a checkpoint's file."""
        return int(path.stem.removeprefix("step-"))

    def save(self, step: int, state: Mapping[str, Any]) -> Path:
        """Keep `state` (tensors and plain types) as the checkpoint of `step`, the one before it, and that of the step `best`.

        Raises:
            OSError: the disk is full; earlier checkpoints are untouched.
            UsageError: another process has continued the run at its address.
        """
        path = self.checkpoint(step)
        dump = checkpoint.written({**state, "reprise": {"recipe": self.spec.recipe, "step": step}})
        try:
            self._keep_place()
            write(path, dump, within=self.path)
        except OSError as error:
            raise self.place.rescue(error, path.name, dump) from None
        self.place.rescued()
        found = self.checkpoints()
        later = [old for old in found if old > path]  # they could not be read when the run continued before them
        for old in later + [old for old in found if old not in later][KEPT:]:
            if old in later or self.step_of(old) != self.best:
                remove(old, within=self.path)
        self.mirror.send()
        return path

    def keep(self, name: str, state: Mapping[str, Any]) -> None:
        """Write `state` (tensors and plain types) into checkpoints/<name>.ckpt, which stays; OSError: the disk is full."""
        write(self.path / "checkpoints" / f"{name}.ckpt", checkpoint.written(state), within=self.path)

    def _keep_place(self) -> None:
        """Make the folder again where it vanished, and write the metrics that wait: no checkpoint is ahead of them."""
        if self.place.keep():
            self._metrics_log.close()
            self.report({"note": f"{self} had vanished and was made again; what was logged before is gone."})
        self._metrics_log.flush()

    def load(self, path: Path, fields: Fields = NO_FIELDS) -> dict[str, Any]:
        """Load a checkpoint's state onto the CPU.

        Args:
            fields: that it must have, and their types.

        Raises:
            UsageError: it is damaged, lacks a field, or belongs to another recipe.
        """
        state = checkpoint.load(path)
        checkpoint.check_recipe(path, state, self.spec.recipe)
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
        """The newest checkpoint that can be read, or that of the step `wanted`, of a run that is to be measured or sampled.

        Args:
            fields: that it must have, and their types.

        Raises:
            UsageError: there is none.
        """
        if self.wanted is not None:
            self.used = checkpoint.of_step(self.wanted, {self.step_of(path): path for path in self.checkpoints()}, self)
            return self.load(self.used, fields)
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
