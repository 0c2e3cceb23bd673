"""A Slurm job's folder: its path, Slurm's ids of the job, and the record that its script keeps of each attempt."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from cluster.job import History, LauncherError, State, exit_words
from cluster.slurm.script import RECORD
from cluster.supervisor import read_json
from cluster.trust import state_folder

FINAL = ("done", "cancelled")
"""Events that are the last of a record."""


def find(id: str, shared: str) -> Path:
    """The folder of the job with this id.

    Args:
        id: the job's id.
        shared: the folder that holds the folders of jobs; '' to find it by this machine's pointer.

    Raises:
        LauncherError: there is none.
    """
    if id and Path(id).name == id:
        with contextlib.suppress(OSError):
            named = Path(shared).expanduser().absolute() / id
            folder = named if shared and named.is_dir() else Path(pointer(id).read_text())
            if (folder / "job.json").exists():
                return folder
    raise LauncherError(f"There is no Slurm job {id!r}{f' in {shared}' * bool(shared)}.")


def pointer(id: str) -> Path:
    """The file of this machine that holds the path of a job's folder, where it is not in a shared folder of all jobs."""
    return state_folder() / "slurm" / id


def write_private(path: Path, text: str) -> None:
    """Write a file that only the user may read."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def numbers(folder: Path) -> list[str]:
    """Slurm's ids: that of the array, if there is one, then that of the job itself.

    Raises:
        LauncherError: job.json is damaged.
    """
    try:
        found = list((read_json(folder / "job.json") or {})["slurm"])
        if not all(re.fullmatch(r"\d+", number, re.ASCII) for number in found):  # they become words of Slurm's commands
            raise ValueError(found)
        return found
    except (ValueError, KeyError, TypeError):
        raise LauncherError(f"{folder / 'job.json'} is damaged: the state of this job cannot be known.") from None


def record(folder: Path) -> list[list[str]]:
    """The record's lines about the job itself, not its tasks: task, attempt, time, event, and the exit code or the node."""
    try:
        lines = [line.split() for line in (folder / RECORD).read_text().splitlines()]
    except FileNotFoundError:
        return []
    return [line for line in lines if len(line) == 5 and line[0] == "-"]


def ended(folder: Path) -> State | None:
    """The final state, where the script has recorded one; else None."""
    *_, event, code = (record(folder) or [["", ""]])[-1]
    if event not in FINAL:
        return None
    return State.cancelled if event == "cancelled" else State.succeeded if code == "0" else State.failed


def exit_code(folder: Path) -> int | None:
    """The command's exit code; None before the job has ended."""
    return int(record(folder)[-1][4]) if ended(folder) is not None else None


def history(folder: Path) -> History:
    """Attempts, times and exit code from the record."""
    lines = record(folder)
    starts = [line for line in lines if line[3] == "start"]
    over = float(lines[-1][2]) if ended(folder) else 0.0
    started = float(starts[0][2]) if starts else 0.0
    attempts = max((int(line[1]) for line in lines), default=0)
    return History(attempts or 1, started, over, exit_words(exit_code(folder)))
