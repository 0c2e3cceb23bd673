"""A Slurm job's folder: where it lies, Slurm's own ids of it, and what its script wrote down of each attempt."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from cluster.job import History, LauncherError, State, exit_words
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
    own = _own(folder)
    return own[-1] if own else None


def history(folder: Path) -> History:
    """How often the job was started, from when to when it ran, and how it ended, where its script has said so."""
    own = _own(folder)
    begun = [line for line in own if line[3] == "start"]
    over = next((line for line in own[-1:] if line[3] in ("done", "cancelled")), None)
    return History(
        attempts=max(len(begun), 1),
        started=float(begun[0][2]) if begun else 0.0,
        ended=float(over[2]) if over else 0.0,
        why=exit_words(int(over[4])) if over else "",
    )


def _own(folder: Path) -> list[list[str]]:
    try:
        lines = [line.split() for line in (folder / RECORD).read_text().splitlines()]
    except FileNotFoundError:
        return []
    return [line for line in lines if len(line) == 5 and line[0] == "-"]


def ended(folder: Path) -> State | None:
    """How the job ended, where its script has said so for good."""
    line = last(folder)
    if line is None or line[3] not in ("done", "cancelled"):
        return None
    return State.cancelled if line[3] == "cancelled" else State.succeeded if line[4] == "0" else State.failed
