"""The records of submitted jobs: one JSON file for each, so that concurrent submissions do not disturb each other.

Each job is recorded on this machine. Where its folder is on shared storage it is also recorded there, in `.reprise/jobs`,
so that other machines and other people find it. Secrets are hidden before a record is made.

Anyone may have written a record outside of the user's state folder. It is `foreign`, and then only shown, unless the user's own
key has sealed what was sent, or the user has approved it.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import json
import os
import re
import stat
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from cluster.hiding import hide_command, hide_env, hide_value
from cluster.job import History, Job, LauncherError, Resources, State
from cluster.storage import keep_out_of_git
from cluster.supervisor import write_json
from cluster.trust import approved, digest, is_sealed, seal, state_folder

SHARED = Path(".reprise/jobs")
"""Folder of records, relative to the folder on shared storage from which the jobs were sent."""
OBSERVED = ("state", "attempts", "started", "ended", "why")
"""Fields about how a job went, which everyone who can write the record may fill in; the seal covers all others."""
MOST_BYTES, LATEST = 2**20, 253_402_300_799.0
"""Bounds of a record: its size, and a time (the end of the year 9999)."""


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
    foreign: str = field(default="", compare=False)
    """File of a record that this user neither made nor approved: it is only shown. '' for every other."""

    @property
    def wanted(self) -> Resources:
        """The resources that the job requested."""
        return Resources(**self.resources)


def jobs_folder() -> Path:
    """The folder of this machine's records."""
    return state_folder() / "jobs"


def entry_of(id: str, on: str, job: Job, **known: Any) -> Entry:
    """The record of a job that was just submitted, with secrets hidden; `known` are further fields of `Entry`."""
    options = {k: v if k == "secrets" else hide_value(k, v) for k, v in known.pop("options", {}).items()}
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
            keep_out_of_git(Path(entry.shared))
            _write(entry, Path(entry.shared), sealed=True)
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
    own = folder or jobs_folder()
    for path in (p for top in (own, *also) for p in sorted(top.glob("*.json"))):
        try:
            entry = _entry(path, own=path.parent == own)
        except (OSError, ValueError, TypeError, RecursionError):
            damaged.append(path.name)
            continue
        known = found.get(entry.id)
        found[entry.id] = _joined(known, entry) if known else entry
    return sorted(found.values(), key=lambda e: e.submitted, reverse=True), damaged


def _joined(known: Entry, other: Entry) -> Entry:
    """Of two records of a job, the first that is not foreign, with the end that the other has seen where it is none itself."""
    if other.foreign:
        return known
    if known.foreign:
        return other
    seen_end = {name: getattr(other, name) for name in OBSERVED} if other.state and not known.state else {}
    return replace(known, **seen_end)


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


def approval(path: Path) -> str:
    """The hash by which a user approves the record in a file: of all that was sent, and not of how the job went.

    Raises:
        OSError, ValueError: the file is no record.
    """
    return digest(json.dumps(_sent(_content(path)), sort_keys=True).encode())


def _write(entry: Entry, folder: Path, *, sealed: bool = False) -> None:
    content = {name: value for name, value in asdict(entry).items() if name != "foreign"}
    write_json(folder / f"{entry.id}.json", content | ({"seal": seal(_sent(content))} if sealed else {}))


def _sent(content: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a record's content that a seal or an approval covers."""
    return {name: value for name, value in content.items() if name not in (*OBSERVED, "shared", "seal")}


def _update(entry: Entry, folder: Path) -> None:
    """Write how the job went, under a lock, so that no process overwrites a final state.

    Without locks in the file system, the last one wins.
    """
    path = folder / f"{entry.id}.json"
    with open(os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "w") as lock:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        content = _content(path)
        if not _checked(content, path).state:
            write_json(path, content | {name: getattr(entry, name) for name in OBSERVED})


def _entry(path: Path, *, own: bool) -> Entry:
    """The record in a file; fields of a later version are ignored.

    Args:
        path: the file.
        own: whether the file is in the user's own state folder.

    Raises:
        OSError, ValueError, TypeError, RecursionError: it is damaged.
    """
    content = _content(path)
    entry = _checked(content, path)
    if own:
        return entry
    trusted = is_sealed(_sent(content), content.get("seal")) or approved(path, approval(path))
    return replace(entry, shared=str(path.parent.absolute()), foreign="" if trusted else str(path.absolute()))


def _content(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        OSError, ValueError, RecursionError: the file is no regular one, is too long, or holds something else.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # a pipe would be waited for
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_BYTES:
            raise ValueError(path)
        content = json.loads(file.read(MOST_BYTES + 1))
    if not isinstance(content, dict):
        raise ValueError(path)
    return content


def _checked(content: Mapping[str, Any], path: Path) -> Entry:
    names = {f.name for f in fields(Entry)} - {"foreign"}
    entry = Entry(**{k: v for k, v in content.items() if k in names})
    if entry.id != path.stem or not _sound(entry):
        raise ValueError(path)
    return replace(entry, command=tuple(entry.command), runs=tuple(entry.runs))


def _sound(entry: Entry) -> bool:
    """Whether every field has its type and a possible value: a file that another program wrote can hold anything."""
    texts = [entry.name, entry.workdir, entry.address, entry.state, entry.profile, entry.shared, entry.why]
    texts += [entry.on, entry.version, entry.commit, entry.follows]
    lists = (entry.command, entry.runs)
    sizes = {f.name for f in fields(Resources)}
    return (
        re.fullmatch(r"[A-Za-z0-9][\w.-]{0,127}", entry.id, re.ASCII) is not None
        and all(isinstance(m, dict) for m in (entry.options, entry.resources, entry.env))
        and all(isinstance(t, str) for t in (*texts, *entry.env.values()))
        and all(isinstance(x, list) and all(isinstance(w, str) for w in x) for x in lists if x != ())
        and all(_is_number(t) for t in (entry.submitted, entry.started, entry.ended, entry.attempts))
        and all(name in sizes and _is_number(size) for name, size in entry.resources.items())
        and all(_is_option(value) for value in entry.options.values())
        and entry.state in ("", *(s.value for s in State))
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= LATEST


def _is_option(value: object) -> bool:
    several = value if isinstance(value, list) else [value]
    return all(isinstance(one, str | int | float) for one in several)
