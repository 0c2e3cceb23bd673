"""The list of submitted jobs, on disk: one JSON file each, so that concurrent submissions cannot disturb each other."""

from __future__ import annotations

import difflib
import os
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from cluster.job import Job, LauncherError, State, hide_command
from cluster.supervisor import read_json, write_json


@dataclass(frozen=True)
class Entry:
    """What is remembered of one submitted job; secrets are hidden before it gets here."""

    id: str
    on: str
    name: str
    command: tuple[str, ...]
    workdir: str
    address: str = ""
    submitted: float = field(default_factory=time.time)
    """Seconds since 1970."""
    state: str = ""
    """The final state, once it was seen; empty before. A cluster that is gone cannot be asked again."""


def state_folder() -> Path:
    """The folder for what outlives a run: REPRISE_STATE, or XDG_STATE_HOME/reprise, or ~/.local/state/reprise."""
    if own := os.environ.get("REPRISE_STATE"):
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".local/state") / "reprise"


def jobs_folder() -> Path:
    """The folder that holds the list."""
    return state_folder() / "jobs"


def remember(id: str, on: str, job: Job, address: str = "", folder: Path | None = None) -> Entry:
    """Adds a submitted job to the list."""
    shown = hide_command(job.command)
    entry = Entry(id=id, on=on, name=job.name, command=shown, workdir=str(job.workdir), address=address)
    write(entry, folder)
    return entry


def write(entry: Entry, folder: Path | None = None) -> None:
    """Writes one entry, all of it or nothing."""
    folder = folder or jobs_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_json(folder / f"{entry.id}.json", asdict(entry))


def seen(entry: Entry, state: State, folder: Path | None = None) -> Entry:
    """Notes a final state for good; others change and are not kept."""
    if not state.ended or entry.state == state.value:
        return entry
    known = replace(entry, state=state.value)
    write(known, folder)
    return known


def entries(folder: Path | None = None) -> tuple[list[Entry], list[str]]:
    """All jobs, newest first, and the names of files that are damaged and were skipped."""
    found, damaged = [], []
    for path in sorted((folder or jobs_folder()).glob("*.json")):
        try:
            found.append(_entry(path))
        except (OSError, ValueError, TypeError):
            damaged.append(path.name)
    return sorted(found, key=lambda e: e.submitted, reverse=True), damaged


def find(text: str, folder: Path | None = None) -> Entry:
    """The job with this id, or the only one whose id starts so.

    Raises:
        LauncherError: there is none (the nearest is named), or several.
    """
    known = entries(folder)[0]
    hits = [e for e in known if e.id == text] or [e for e in known if text and e.id.startswith(text)]
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise LauncherError(f"Several jobs start with '{text}': {', '.join(e.id for e in hits[:8])}. Write more of it.")
    near = difflib.get_close_matches(text, [e.id for e in known], n=1, cutoff=0.4)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise LauncherError(f"There is no job '{text}'.{hint} `reprise jobs` lists all of them.")


def _entry(path: Path) -> Entry:
    content = read_json(path)
    if content is None:
        raise ValueError(path)
    entry = Entry(**content)
    if entry.id != path.stem or not isinstance(entry.submitted, int | float):
        raise ValueError(path)
    return replace(entry, command=tuple(entry.command))
