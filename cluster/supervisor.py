"""The supervisor of one local job: it starts the command, passes on a request to stop, and records how it ended.

`local.Local` starts `python -I supervisor.py FOLDER PROGRAM ARGUMENT...` in a session of its own. The file imports only the
standard library and runs as a script, so that no file in the job's working directory can change what it does.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TypedDict

DEFAULT_GRACE = 120.0
"""Seconds from SIGTERM to SIGKILL: enough to write a checkpoint."""


class Identity(TypedDict):
    """One process of one boot of one machine: a pid alone may belong to a later process."""

    pid: int
    started: str


def identity(pid: int) -> Identity | None:
    """The process that has this pid now; None where there is none, or where it is a zombie."""
    started = _started_linux(pid) if Path("/proc/self/stat").exists() else _started_ps(pid)
    return None if started is None else Identity(pid=pid, started=started)


def alive(who: Identity) -> bool:
    """Whether this process, and no later one with its pid, still runs."""
    return identity(who["pid"]) == who


def write_json(path: Path, content: dict) -> None:
    """Write the file so that a reader sees all of it or nothing, and a crash of the machine leaves the old file.

    Raises:
        OSError: the disk is full or not writable; the old file is unchanged, and no temporary file is left.
    """
    temporary = path.with_name(
        f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp"
    )  # other machines have the same pids
    try:
        with temporary.open("w") as file:
            file.write(json.dumps(content))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def read_json(path: Path) -> dict | None:
    """The content that `write_json` wrote; None where there is no such file.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    if not isinstance(content, dict):
        raise ValueError(f"{path} should hold a JSON object.")
    return content


def supervise(folder: Path, command: list[str]) -> None:
    """Run the command until it has ended, and write its exit code to FOLDER/exit.json."""
    early: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: early.append(number))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the command inherits this, as under nohup
    record = {"host": socket.gethostname(), "supervisor": identity(os.getpid())}
    write_json(folder / "process.json", record)
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", flush=True)
        write_json(folder / "exit.json", {"code": 127, "ended": time.time()})
        return
    _pass_on_stop(folder, child.pid)
    write_json(folder / "process.json", record | {"child": identity(child.pid)})
    if early:
        os.kill(os.getpid(), signal.SIGTERM)
    code = child.wait()
    _signal_group(child.pid, signal.SIGKILL)  # workers that are still there: the job is over
    write_json(folder / "exit.json", {"code": code, "ended": time.time()})


def _pass_on_stop(folder: Path, group: int) -> None:
    def stop(*_: object) -> None:
        _signal_group(group, signal.SIGTERM)
        signal.setitimer(signal.ITIMER_REAL, _grace(folder))

    signal.signal(signal.SIGALRM, lambda *_: _signal_group(group, signal.SIGKILL))
    signal.signal(signal.SIGTERM, stop)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS raises the latter for a zombie
        os.killpg(group, number)


def _grace(folder: Path) -> float:
    """Seconds that the command has to stop: those in cancel.json, else (the machine shuts down) the default."""
    with contextlib.suppress(OSError, ValueError):
        return max(float((read_json(folder / "cancel.json") or {}).get("grace", DEFAULT_GRACE)), 0.001)
    return DEFAULT_GRACE


def _started_linux(pid: int) -> str | None:
    """Boot id and clock ticks since boot, which together never repeat, even when the clock is changed."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    state, *rest = stat.rpartition(")")[2].split()  # the name before it can contain spaces and brackets
    return None if state in "ZX" else f"{boot}:{rest[18]}"


def _started_ps(pid: int) -> str | None:
    shown = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True).stdout
    state, _, started = shown.strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()


if __name__ == "__main__":
    supervise(Path(sys.argv[1]), sys.argv[2:])
