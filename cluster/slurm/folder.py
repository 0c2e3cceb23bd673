"""A Slurm job's folder: where it lies, Slurm's own ids of it, and what its script wrote down of each attempt."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from cluster.job import History, LauncherError, State, exit_words
from cluster.slurm.script import RECORD
from cluster.store import state_folder
from cluster.supervisor import read_json

FINAL = ("done", "cancelled")
"""Events of the record after which nothing follows."""


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


def record(folder: Path) -> list[list[str]]:
    """The lines that are the job's own, no task's: task, attempt, time, event, and the exit code or the node."""
    try:
        lines = [line.split() for line in (folder / RECORD).read_text().splitlines()]
    except FileNotFoundError:
        return []
    return [line for line in lines if len(line) == 5 and line[0] == "-"]


def ended(folder: Path) -> State | None:
    """How the job ended, where its script has said so for good."""
    *_, event, code = (record(folder) or [["", ""]])[-1]
    if event not in FINAL:
        return None
    return State.cancelled if event == "cancelled" else State.succeeded if code == "0" else State.failed


def exit_code(folder: Path) -> int | None:
    """The command's exit code, once it has ended for good."""
    return int(record(folder)[-1][4]) if ended(folder) is not None else None


def history(folder: Path) -> History:
    """What the record says of the job's attempts."""
    lines = record(folder)
    starts = [line for line in lines if line[3] == "start"]
    over = float(lines[-1][2]) if ended(folder) else 0.0
    begun = float(starts[0][2]) if starts else 0.0
    attempts = max((int(line[1]) for line in lines), default=0)
    return History(attempts or 1, begun, over, exit_words(exit_code(folder)))
