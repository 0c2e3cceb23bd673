"""The records of submitted jobs: one JSON file for each, so that concurrent submissions do not disturb each other.

Each job is recorded on this machine. Where its folder is on shared storage it is also recorded there, in `.reprise/jobs`,
so that other machines and other people find it. Secrets are hidden before a record is made.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from cluster.job import History, Job, LauncherError, Resources, State, hide_command, hide_env, hide_words
from cluster.supervisor import read_json, write_json

SHARED = Path(".reprise/jobs")
"""Folder of records, relative to the folder on shared storage from which the jobs were sent."""


@dataclass(frozen=True)
class Entry:
    """The record of one submitted job. Fields that an older version did not write are empty."""

    id: str
    on: str
    name: str
    command: tuple[str, ...]
    workdir: str
    address: str = ""
    submitted: float = field(default_factory=time.time)
    """Seconds since 1970."""
    state: str = ""
    """The final state, once it was observed; empty before. It is kept, for the cluster may be gone later."""
    profile: str = ""
    """The profile that the user named with --on; empty where it was a backend."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the launcher that were set."""
    resources: Mapping[str, float] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    """Version of Reprise that sent the job."""
    commit: str = ""
    """Commit of the working directory's checkout, with '+changes' where files differed from it."""
    runs: tuple[str, ...] = ()
    """Run folders that the command names."""
    follows: str = ""
    """The job that this one continues."""
    shared: str = ""
    """Folder on shared storage with a copy of this record."""
    attempts: int = 1
    started: float = 0.0
    ended: float = 0.0
    why: str = ""
    """The reason for its state: how it ended, or what it waits for."""

    @property
    def wanted(self) -> Resources:
        """The resources that the job requested."""
        return Resources(**self.resources)


def state_folder() -> Path:
    """The folder for records of jobs and clusters: REPRISE_STATE, or XDG_STATE_HOME/reprise, or ~/.local/state/reprise."""
    if own := os.environ.get("REPRISE_STATE"):
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".local/state") / "reprise"


def jobs_folder() -> Path:
    """The folder of this machine's records."""
    return state_folder() / "jobs"


def entry_of(id: str, on: str, job: Job, **known: Any) -> Entry:
    """The record of a job that was just submitted, with secrets hidden; `known` are further fields of `Entry`."""
    options = {k: v if k == "secrets" else hide_words(v) for k, v in known.pop("options", {}).items()}
    return Entry(
        id=id, on=on, name=job.name, command=hide_command(job.command), workdir=str(job.workdir),
        resources=asdict(job.resources), env=hide_env(job.env), options=options, **known,
    )  # fmt: skip


def write(entry: Entry, folder: Path | None = None) -> None:
    """Write one record, all of it or nothing, on this machine, and on shared storage where the entry names a folder there.

    Raises:
        OSError: it could not be written on this machine; the copy on shared storage may exist all the same.
    """
    if entry.shared:
        with contextlib.suppress(OSError):
            Path(entry.shared).mkdir(parents=True, exist_ok=True)
            (Path(entry.shared) / ".gitignore").write_text("*\n")
            _write(entry, Path(entry.shared))
    folder = folder or jobs_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(entry, folder)


def seen(entry: Entry, state: State, folder: Path | None = None, history: History | None = None) -> Entry:
    """Record a job's state and history wherever the job is recorded, and return the new record. A final state is permanent.

    Nothing is written where nothing changed. An error while writing is ignored, so that the state can still be shown.
    """
    fresh = {k: v for k, v in asdict(history).items() if v or k == "why"} if history else {}
    known = replace(entry, state=state.value if state.ended else "", **fresh)
    if known != entry:
        for where in filter(None, (folder or jobs_folder(), entry.shared and Path(entry.shared))):
            with contextlib.suppress(OSError, ValueError, TypeError):
                _update(known, where)
    return known


def entries(folder: Path | None = None, also: Iterable[Path] = ()) -> tuple[list[Entry], list[str]]:
    """All jobs, newest first, and the names of damaged files, which were skipped.

    Args:
        folder: this machine's records.
        also: folders on shared storage; where a job has several records, one with a final state is preferred.
    """
    found: dict[str, Entry] = {}
    damaged = []
    for path in (p for top in (folder or jobs_folder(), *also) for p in sorted(top.glob("*.json"))):
        try:
            entry = _entry(path)
        except (OSError, ValueError, TypeError):
            damaged.append(path.name)
            continue
        if entry.id not in found or (entry.state and not found[entry.id].state):
            found[entry.id] = entry
    return sorted(found.values(), key=lambda e: e.submitted, reverse=True), damaged


def find(text: str, folder: Path | None = None, also: Iterable[Path] = ()) -> Entry:
    """The record of the job with this id, or of the only job whose id begins so.

    Raises:
        LauncherError: there is none (the nearest is named), or several.
    """
    known, damaged = entries(folder, also)
    hits = [e for e in known if e.id == text] or [e for e in known if text and e.id.startswith(text)]
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise LauncherError(f"Several jobs start with '{text}': {', '.join(e.id for e in hits[:8])}. Write more of it.")
    if f"{text}.json" in damaged:
        raise LauncherError(
            f"The record of '{text}' in {folder or jobs_folder()} is damaged: ask its cluster about the job."
        )
    near = difflib.get_close_matches(text, [e.id for e in known], n=1, cutoff=0.4)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise LauncherError(f"There is no job '{text}'.{hint} `reprise jobs` lists all of them.")


def _write(entry: Entry, folder: Path) -> None:
    write_json(folder / f"{entry.id}.json", asdict(entry))


def _update(entry: Entry, folder: Path) -> None:
    """Write under a lock, so that no process overwrites a final state; without locks in the file system, the last one wins."""
    with open(folder / ".lock", "w") as lock:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        there = _entry(folder / f"{entry.id}.json")
        if not there.state:
            _write(entry, folder)


def _entry(path: Path) -> Entry:
    """The record in a file; fields of a later version are ignored.

    Raises:
        ValueError, TypeError: it is damaged.
    """
    content = read_json(path)
    if content is None:
        raise ValueError(path)
    names = {f.name for f in fields(Entry)}
    entry = Entry(**{k: v for k, v in content.items() if k in names})
    if entry.id != path.stem or not _sound(entry):
        raise ValueError(path)
    return replace(entry, command=tuple(entry.command), runs=tuple(entry.runs))


def _sound(entry: Entry) -> bool:
    """Whether every field has its type: a file that was edited by hand can hold anything."""
    texts = (entry.on, entry.name, entry.workdir, entry.address, entry.state, entry.profile, entry.shared, entry.why)
    lists = (entry.command, entry.runs)
    return (
        all(isinstance(t, str) for t in texts)
        and all(isinstance(x, list) and all(isinstance(w, str) for w in x) for x in lists if x != ())
        and all(isinstance(t, int | float) for t in (entry.submitted, entry.started, entry.ended, entry.attempts))
        and all(isinstance(m, dict) for m in (entry.options, entry.resources, entry.env))
        and entry.state in ("", *(s.value for s in State))
    )
