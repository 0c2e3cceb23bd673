"""The record of submitted jobs, on disk: one JSON file each, so that concurrent submissions cannot disturb each other.

Each job is recorded on this machine, and where its folder lies on shared storage also there, in `.reprise/jobs`, so that
other machines and other people find it. Secrets are hidden before anything gets here.
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
"""In a folder on shared storage: the records of the jobs that were sent from there."""


@dataclass(frozen=True)
class Entry:
    """What is remembered of one submitted job. Fields that an older version did not write are empty."""

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
    profile: str = ""
    """The name that the user gave for the place, where it is a profile's."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What was set of the place's launcher."""
    resources: Mapping[str, float] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    """Of Reprise, that sent it."""
    commit: str = ""
    """Of the working directory's checkout, with '+changes' where it differed."""
    runs: tuple[str, ...] = ()
    """Run folders that the command writes, as far as it says."""
    follows: str = ""
    """The job that this one goes on with."""
    shared: str = ""
    """Folder on shared storage that has this record too."""
    attempts: int = 1
    started: float = 0.0
    ended: float = 0.0
    why: str = ""
    """Why it stands so: how it ended, or what it waits for."""

    @property
    def wanted(self) -> Resources:
        """What the job asked for of each node."""
        return Resources(**self.resources)


def state_folder() -> Path:
    """The folder for what outlives a run: REPRISE_STATE, or XDG_STATE_HOME/reprise, or ~/.local/state/reprise."""
    if own := os.environ.get("REPRISE_STATE"):
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".local/state") / "reprise"


def jobs_folder() -> Path:
    """The folder of this machine's records."""
    return state_folder() / "jobs"


def entry_of(id: str, on: str, job: Job, **known: Any) -> Entry:
    """The record of a job that was just submitted, its secrets hidden; `known` are further fields of it."""
    options = {k: v if k == "secrets" else hide_words(v) for k, v in known.pop("options", {}).items()}
    return Entry(
        id=id, on=on, name=job.name, command=hide_command(job.command), workdir=str(job.workdir),
        resources=asdict(job.resources), env=hide_env(job.env), options=options, **known,
    )  # fmt: skip


def write(entry: Entry, folder: Path | None = None) -> None:
    """Adds one record, all of it or nothing, on this machine, and on shared storage where it has a place there.

    Raises:
        OSError: it could not be written on this machine; what shared storage has is then there all the same.
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
    """Notes how a job stands, wherever it is recorded: a final state for good, and what the place tells beside it.

    What has not changed is not written, and a full disk is no reason not to show it.
    """
    told = {k: v for k, v in asdict(history).items() if v or k == "why"} if history else {}
    known = replace(entry, state=state.value if state.ended else "", **told)
    if known != entry:
        for place in filter(None, (folder or jobs_folder(), entry.shared and Path(entry.shared))):
            with contextlib.suppress(OSError, ValueError, TypeError):
                _update(known, place)
    return known


def entries(folder: Path | None = None, also: Iterable[Path] = ()) -> tuple[list[Entry], list[str]]:
    """All jobs, newest first, and the names of files that are damaged and were skipped.

    Args:
        folder: this machine's records.
        also: folders on shared storage; of a job that is in several, a record with a final state is taken.
    """
    found: dict[str, Entry] = {}
    damaged = []
    for path in (p for place in (folder or jobs_folder(), *also) for p in sorted(place.glob("*.json"))):
        try:
            entry = _entry(path)
        except (OSError, ValueError, TypeError):
            damaged.append(path.name)
            continue
        if entry.id not in found or (entry.state and not found[entry.id].state):
            found[entry.id] = entry
    return sorted(found.values(), key=lambda e: e.submitted, reverse=True), damaged


def find(text: str, folder: Path | None = None, also: Iterable[Path] = ()) -> Entry:
    """The job with this id, or the only one whose id starts so.

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
        raise LauncherError(f"The record of '{text}' in {folder or jobs_folder()} is damaged: ask its place about it.")
    near = difflib.get_close_matches(text, [e.id for e in known], n=1, cutoff=0.4)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise LauncherError(f"There is no job '{text}'.{hint} `reprise jobs` lists all of them.")


def _write(entry: Entry, folder: Path) -> None:
    write_json(folder / f"{entry.id}.json", asdict(entry))


def _update(entry: Entry, folder: Path) -> None:
    """One process at a time, so that none undoes what another saw; where the file system has no locks, the last one stays."""
    with open(folder / ".lock", "w") as lock:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        there = _entry(folder / f"{entry.id}.json")
        if not there.state:
            _write(entry, folder)


def _entry(path: Path) -> Entry:
    """A record as it was written; fields of a later version are passed over.

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
    """Whether every field holds what it should: a file that was edited by hand may hold anything."""
    texts = (entry.on, entry.name, entry.workdir, entry.address, entry.state, entry.profile, entry.shared, entry.why)
    lists = (entry.command, entry.runs)
    return (
        all(isinstance(t, str) for t in texts)
        and all(isinstance(x, list) and all(isinstance(w, str) for w in x) for x in lists if x != ())
        and all(isinstance(t, int | float) for t in (entry.submitted, entry.started, entry.ended, entry.attempts))
        and all(isinstance(m, dict) for m in (entry.options, entry.resources, entry.env))
        and entry.state in ("", *(s.value for s in State))
    )
