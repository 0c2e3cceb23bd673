"""A Slurm job's folder: where it lies, Slurm's own ids of it, and what its script wrote down of each attempt."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from cluster.job import LauncherError, State
from cluster.slurm_script import RECORD
from cluster.store import state_folder
from cluster.supervisor import read_json


def find(id: str, shared: str) -> Path:
    """The job's folder.

    Raises:
        LauncherError: there is none.
    """
    if id and Path(id).name == id:
        with contextlib.suppress(OSError):
            beside = Path(shared).expanduser().absolute() / id
            folder = beside if shared and beside.is_dir() else Path(pointer(id).read_text())
            if (folder / "job.json").exists():
                return folder
    raise LauncherError(f"There is no Slurm job {id!r}{f' in {shared}' * bool(shared)}.")


def pointer(id: str) -> Path:
    """The file that says where a job's folder lies which is not in a shared folder of all jobs."""
    return state_folder() / "slurm" / id


def private(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def numbers(folder: Path) -> list[str]:
    """Slurm's ids: the array's, if there is one, then the job's own."""
    try:
        return list((read_json(folder / "job.json") or {})["slurm"])
    except (ValueError, KeyError):
        raise LauncherError(f"{folder / 'job.json'} is damaged: the state of this job cannot be known.") from None


def last(folder: Path) -> list[str] | None:
    """The last line of the record that is the job's own: task, attempt, time, event, and the exit code or the node."""
    try:
        lines = [line.split() for line in (folder / RECORD).read_text().splitlines()]
    except FileNotFoundError:
        return None
    own = [line for line in lines if len(line) == 5 and line[0] == "-"]
    return own[-1] if own else None


def ended(folder: Path) -> State | None:
    """How the job ended, where its script has said so for good."""
    line = last(folder)
    if line is None or line[3] not in ("done", "cancelled"):
        return None
    return State.cancelled if line[3] == "cancelled" else State.succeeded if line[4] == "0" else State.failed
