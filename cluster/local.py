"""Jobs on this machine: detached processes that continue after the terminal is closed.

Each job has a folder: `log.txt`, `process.json` (its processes), `cancel.json` once it was asked to stop, `exit.json` once
it has ended. The state is read from these files and the process table, so it is right after a reboot too.
"""

from __future__ import annotations

import codecs
import contextlib
import math
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cluster import supervisor
from cluster.hiding import hide_command, hide_env
from cluster.job import (
    JOB_VARIABLE,
    History,
    Job,
    LauncherError,
    Resources,
    State,
    exit_words,
    new_id,
)
from cluster.trust import state_folder

STARTUP = 30.0
"""Seconds that a supervisor may take to appear before its job counts as lost."""


@dataclass(frozen=True)
class Local:
    """Launcher that starts each job at once as a detached process. Resources are checked, not reserved."""

    root: Path = field(default_factory=lambda: state_folder() / "local")
    """Folder that holds a folder for each job."""
    grace: float = supervisor.DEFAULT_GRACE
    """Seconds from SIGTERM to SIGKILL when a job is cancelled."""

    def check(self, job: Job) -> list[str]:
        """Every reason why the job cannot run here: working directory, program, resources of this machine."""
        reasons = [] if job.workdir.is_dir() else [f"There is no folder {job.workdir} to run in."]
        if shutil.which(job.command[0], path=job.env.get("PATH")) is None:
            reasons.append(f"There is no program {job.command[0]!r} on this machine.")
        return reasons + _too_much(job.resources)

    def render(self, job: Job) -> str:
        """The equivalent shell command."""
        env = [f"{name}={value}" for name, value in hide_env(job.env).items()]
        line = shlex.join([*(["env", *env] if env else []), *hide_command(job.command)])
        return f"# local job {job.name}: a detached process\ncd {shlex.quote(str(job.workdir))} &&\n{line}\n"

    def submit(self, job: Job) -> str:
        """Start the job and return its id once the process runs.

        Raises:
            LauncherError: the process could not be started.
        """
        id = new_id(job.name)
        folder = self.root.absolute() / id
        folder.mkdir(parents=True, mode=0o700)
        started = _start(folder, job)
        deadline = time.monotonic() + STARTUP
        while not (folder / "process.json").exists():
            if started.poll() is not None or time.monotonic() > deadline:
                raise LauncherError(f"The job's supervisor did not start; see {folder / 'log.txt'}.")
            time.sleep(0.01)
        return id

    def state(self, id: str) -> State:
        """The state, from the job's folder and the process table.

        Raises:
            LauncherError: there is no such job, or it runs on another machine that shares this folder.
        """
        folder = self._folder(id)
        done = _read(folder / "exit.json")
        if done is None and self._processes(folder):
            return State.running
        # It may have ended since the first look.
        done = done or _read(folder / "exit.json")
        if (folder / "cancel.json").exists():
            return State.cancelled
        if done is None:
            return State.pending if _is_new(folder) else State.lost
        return State.succeeded if done.get("code") == 0 else State.failed

    def exit_code(self, id: str) -> int | None:
        """The command's exit code, negative for the signal that ended it; None while it runs or where unknown."""
        return (_read(self._folder(id) / "exit.json") or {}).get("code")

    def history(self, id: str) -> History:
        """When the command ran, and how it ended."""
        folder = self._folder(id)
        process, done = folder / "process.json", _read(folder / "exit.json") or {}
        started = process.stat().st_mtime if process.exists() else 0.0
        return History(started=started, ended=done.get("ended", 0.0), why=exit_words(done.get("code")))

    def logs(self, id: str, follow: bool) -> Iterator[str]:
        """Pieces of the job's output (stdout and stderr as they came)."""
        path = self._folder(id) / "log.txt"
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        with path.open("rb") as file:
            while True:
                ended = not follow or self.state(id).ended
                while piece := file.read(65536):
                    yield decode(piece)
                if ended:  # determined before the last read, so nothing is missed
                    return
                time.sleep(0.1)

    def cancel(self, id: str) -> None:
        """Send SIGTERM now and SIGKILL after the grace period, to the command and all processes that it started."""
        folder = self._folder(id)
        if self.state(id).ended:
            return
        asked = _read(folder / "cancel.json")
        if asked is None:
            supervisor.write_json(folder / "cancel.json", {"grace": self.grace, "asked": time.time()})
        running = self._processes(folder)
        with contextlib.suppress(ProcessLookupError):
            if "supervisor" in running and asked is None:
                os.kill(running["supervisor"]["pid"], signal.SIGTERM)
            elif (
                "child" in running and "supervisor" not in running
            ):  # the supervisor is gone, so nothing counts the grace period
                late = asked is not None and time.time() - asked["asked"] > asked["grace"]
                os.killpg(running["child"]["pid"], signal.SIGKILL if late else signal.SIGTERM)

    def _folder(self, id: str) -> Path:
        folder = self.root / id
        if not id or Path(id).name != id or not folder.is_dir():
            raise LauncherError(f"There is no local job {id!r} in {self.root}.")
        return folder

    def _processes(self, folder: Path) -> dict[str, supervisor.Identity]:
        """The processes that still run: supervisor, and child (the command)."""
        record = _read(folder / "process.json") or {}
        if record.get("host", socket.gethostname()) != socket.gethostname() and not (folder / "exit.json").exists():
            raise LauncherError(f"The job {folder.name} was started on {record['host']}: ask there.")
        known = {key: record.get(key) for key in ("supervisor", "child")}
        return {key: who for key, who in known.items() if who and supervisor.alive(who)}


def _start(folder: Path, job: Job) -> subprocess.Popen:
    line = [sys.executable, "-I", "-S", supervisor.__file__, str(folder), *job.command]
    env = os.environ | {"PYTHONUNBUFFERED": "1", JOB_VARIABLE: folder.name} | dict(job.env)
    with (folder / "log.txt").open("wb") as log:
        return subprocess.Popen(
            line,
            cwd=job.workdir,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _is_new(folder: Path) -> bool:
    return not (folder / "process.json").exists() and time.time() - folder.stat().st_mtime < STARTUP


def _read(path: Path) -> dict | None:
    try:
        return supervisor.read_json(path)
    except ValueError:
        raise LauncherError(f"{path} is damaged: the state of this job cannot be known.") from None


def _too_much(wanted: Resources) -> list[str]:
    """Every reason why this machine can never satisfy the request."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    gpus = _gpus() if wanted.gpus else 0
    asked = [
        (wanted.cpus, cores(), "{} CPU cores were asked for, and this machine has {}."),
        (wanted.gpus, gpus, "{} GPUs were asked for, and this machine has {}."),
        (wanted.memory / 2**30, memory / 2**30, "{} GiB of memory were asked for, and this machine has {}."),
        (wanted.nodes, 1, "{} nodes were asked for, and a local job has {}: submit it to a cluster."),
    ]
    return [text.format(f"{want:g}", f"{has:.4g}") for want, has, text in asked if want > has or math.isnan(want)]


def cores() -> int:
    """The number of cores that this process may use; in a container it can be lower than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus() -> int:
    """The number of GPUs that the driver lists; importing torch would take seconds."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=20)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
