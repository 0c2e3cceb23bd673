"""A local folder mirrored at a remote address, through fsspec (s3://, gs://, file://, hdfs:// by pyarrow ...).

Storage that fails for a while does not end a training: new files stay in the local copy and are sent later. An address has no locks.
Instead, a process that takes over a run there leaves its mark; a process that finds another owner's mark stops writing.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from ray_jobs.errors import UsageError
from ray_jobs.run.checkpoint import intact
from ray_jobs.run.files import listed, opened, remove, write
from ray_jobs.run.records import shown

PATIENCE = 600.0
"""Seconds during which sending a finished run is tried again while the storage fails."""
WRITER = ".writer.json"
"""The owner's mark, at the address and, as last known, in the local copy. A name with a dot is no file of the run."""
LATE = ".late.json"
"""In the local copy while it has newer files than the address: the mark, and the size of the metrics, at the address."""
LONGEST = 240
"""Bytes of a file's name; file systems allow 255, and a file that is being written has a longer name."""
LAST = ("result.json", "status.json")
"""Files that say how far a run is; they are sent after the files that they refer to."""


CONTINUED = "Another process has continued"
"""The head of the sentence about an address that another process has taken over."""


class Unreachable(UsageError):
    """Storage cannot be used now; one sentence says why."""


class Superseded(UsageError):
    """Another process has continued the run at its address."""


def filesystem(uri: str) -> tuple[Any, str]:
    """The file system of `uri` and the path within it.

    Raises:
        UsageError: the protocol is unknown or its package is missing, the storage cannot be used now, or it ends with this process.
    """
    import fsspec

    try:
        fs, root = fsspec.core.url_to_fs(uri)
    except (ValueError, ImportError) as error:
        raise UsageError(f"The address {uri} cannot be used: {_first(error)}") from None
    except (
        Exception
    ) as error:  # an ftp:// or sftp:// address is connected here, and each client has exceptions of its own
        raise _unreachable(uri, error) from None
    if "memory" in (fs.protocol if isinstance(fs.protocol, tuple | list) else [fs.protocol]):
        raise UsageError(
            f"{uri} is memory of one process and is gone when that ends: name a folder, or an address that lasts."
        )
    return fs, root.rstrip("/") or root


def local_name(root: str, remote: str) -> str:
    """The name of a remote file, relative to the run's address. It is a place inside the local copy, whatever the storage holds.

    Raises:
        UsageError: the name could lead elsewhere or cannot be a file here: '..', an absolute path, a drive, a backslash, an empty part, a
            control character, or a part of more than LONGEST bytes.
    """
    head = f"{root}/"
    name = remote.removeprefix(head)
    parts = name.split("/")
    usable = remote.startswith(head) and name.isprintable() and "\\" not in name and len(name.encode()) < 1024
    if not usable or name[1:2] == ":" or any(part in ("", ".", "..") or len(part.encode()) > LONGEST for part in parts):
        raise UsageError(
            f"The run's address holds the file {shown(remote)}, whose name cannot be one of a run folder: nothing of it was fetched."
        )
    return name


@contextlib.contextmanager
def one_sentence(uri: str) -> Iterator[None]:
    """Turn any error of a storage's client into one sentence.

    Raises:
        Unreachable: the client raised something.
    """
    try:
        yield
    except UsageError:
        raise
    except Exception as error:  # each client has exceptions of its own
        raise _unreachable(uri, error) from error


def _unreachable(uri: str, error: Exception) -> Unreachable:
    return Unreachable(f"{uri} cannot be used now ({type(error).__name__}: {_first(error)})")


def _first(error: Exception) -> str:
    return (str(error).strip() or "no reason given").splitlines()[0]


class Mirror:
    """The local copy of the run at `uri`.

    Args:
        notify: gets a line when the storage begins to fail, and one when it works again.
    """

    def __init__(self, folder: Path, uri: str, notify: Callable[[str], None]) -> None:
        self.folder, self.uri, self.notify = folder, uri, notify
        self.sent: dict[str, tuple[int, int]] = {}
        self.mark = ""
        self.late = False

    # ---- who writes

    def writer(self, fs: Any, root: str) -> dict[str, Any]:
        """The mark of the address's owner; empty where it has none."""
        try:
            return _record(fs.cat_file(f"{root}/{WRITER}"))
        except FileNotFoundError:
            return {}

    def known(self) -> str:
        """The mark of the owner whose work the local copy holds."""
        return self.mark or _record(self._here(WRITER)).get("mark", "")

    def _here(self, name: str) -> bytes:
        """A mark in the local copy; empty braces where there is none."""
        with contextlib.suppress(FileNotFoundError), opened(self.folder / name, "rb") as file:
            return file.read()
        return b"{}"

    def claim(self) -> None:
        """Take the address over from its owner. If two processes do so at the same moment, the later one owns it.

        Raises:
            Unreachable: the storage cannot be used now.
        """
        fs, root = filesystem(self.uri)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        taken = {"mark": uuid4().hex, "host": socket.gethostname(), "pid": os.getpid(), "since": since}
        with one_sentence(self.uri):
            fs.makedirs(root, exist_ok=True)
            fs.pipe_file(f"{root}/{WRITER}", json.dumps(taken).encode())
        self.mark = taken["mark"]
        write(self.folder / WRITER, json.dumps(taken).encode())

    def check(self, fs: Any, root: str) -> None:
        """Refuse to write where another process owns the address.

        Raises:
            Superseded: another process does.
        """
        held = self.writer(fs, root)
        if held and held.get("mark") != self.known():
            who = f"process {held.get('pid')} on {held.get('host')}, since {held.get('since')}"
            raise Superseded(f"{CONTINUED} {self.uri} ({who}): this one stops writing there.")

    # ---- sending

    def push(self) -> None:
        """Upload files that are new or changed, then delete remote checkpoints that are gone here; without a mark, only those it knew.

        Raises:
            Unreachable: the storage cannot be used now.
            Superseded: another process has taken the address over since.
        """
        fs, root = filesystem(self.uri)
        with one_sentence(self.uri):
            self.check(fs, root)
            files = [
                f for f in self.folder.rglob("*") if f.is_file() and not f.is_symlink() and not f.name.startswith(".")
            ]
            for file in sorted(files, key=_turn):
                self._upload(fs, file, f"{root}/{file.relative_to(self.folder).as_posix()}")
            kept = {f.name for f in files if f.parent.name == "checkpoints"}
            remote = fs.ls(f"{root}/checkpoints", detail=False) if kept else []
            for gone in (r for r in remote if r.rsplit("/", 1)[-1] not in kept and (self.mark or r in self.sent)):
                fs.rm_file(gone)
        remove(self.folder / LATE)

    def _upload(self, fs: Any, file: Path, remote: str) -> None:
        stamp = _stamp(file)
        if self.sent.get(remote) != stamp:
            fs.makedirs(os.path.dirname(remote), exist_ok=True)
            fs.put_file(str(file), remote)
            self.sent[remote] = stamp

    def send(self) -> None:
        """As `push`; a storage failure is reported once, and the next call tries again.

        Raises:
            Superseded: another process has taken the address over since.
        """
        with contextlib.suppress(OSError):
            there = {"mark": self.known(), "size": self.sent.get(self._metrics(), (0, 0))[0]}
            write(self.folder / LATE, json.dumps(there).encode())
        try:
            self.push()
        except Unreachable as error:
            if not self.late:
                self.notify(f"{error}: new files are kept in {self.folder} and sent later; training continues.")
            self.late = True
            return
        if self.late:
            self.notify(f"{self.uri} can be used again: everything was sent.")
        self.late = False

    def _metrics(self) -> str:
        return f"{filesystem(self.uri)[1]}/metrics.jsonl"

    def deliver(self) -> None:
        """As `send`, repeated for up to `PATIENCE` seconds.

        Raises:
            Unreachable: the storage failed all that time.
            Superseded: another process has taken the address over since.
        """
        deadline, pause = time.monotonic() + PATIENCE, 0.5
        self.send()
        while self.late:
            if time.monotonic() + pause > deadline:
                raise Unreachable(
                    f"{self.uri} could not be used for {PATIENCE:.0f} s: the run is finished and lies in {self.folder}; "
                    f"'reprise resume {self.uri}' on this machine sends it."
                )
            time.sleep(pause)
            pause = min(2 * pause, 30.0)
            self.send()

    # ---- fetching

    def exists(self, name: str) -> bool:
        """Whether the remote folder holds the file `name`.

        Raises:
            Unreachable: the storage cannot be used now.
        """
        fs, root = filesystem(self.uri)
        with one_sentence(self.uri):
            return bool(fs.exists(f"{root}/{name}"))

    def pull(self, *, checkpoints: bool = True) -> None:
        """Make the local copy equal to the address, unless it has newer files that could not be sent and the address is unchanged since.

        Args:
            checkpoints: whether to fetch them; showing a run needs none.

        Raises:
            Unreachable: the storage cannot be used now.
        """
        fs, root = filesystem(self.uri)
        with one_sentence(self.uri):
            held = self.writer(fs, root)
            if self._ahead(fs, held):
                return
            names = [(remote, local_name(root, remote)) for remote in fs.find(root)]
            found = [(remote, self.folder / name) for remote, name in names if not name.startswith(".")]
            if not found:
                return
            for remote, file in found:
                if checkpoints or file.parent.name != "checkpoints":
                    self._download(fs, remote, file)
            here = {file for _, file in found}
            ours = [*listed(self.folder / "checkpoints", "*.ckpt", within=self.folder), self.folder / "result.json"]
            for stale in (f for f in ours if f not in here):
                remove(stale, within=self.folder)
            self.mark = ""
            write(self.folder / WRITER, json.dumps(held).encode())

    def _ahead(self, fs: Any, held: Mapping[str, Any]) -> bool:
        path, metrics = self.folder / LATE, self._metrics()
        if not path.is_file():
            return False
        size = fs.size(metrics) if fs.exists(metrics) else 0
        if _record(self._here(LATE)) != {"mark": held.get("mark", ""), "size": size}:
            return False
        self.sent[metrics] = (size, 0)
        return True

    def _download(self, fs: Any, remote: str, file: Path) -> None:
        """Fetch a file; a checkpoint that is here, whole and with the same size, is the same: those never change."""
        here = file.parent.name == "checkpoints" and file.exists() and file.stat().st_size == fs.size(remote)
        if not (here and intact(file)):
            file.parent.mkdir(parents=True, exist_ok=True)
            aside = file.with_name(f".{file.name}.part")
            fs.get_file(remote, str(aside))
            os.replace(aside, file)  # another process of this machine may be reading it
        self.sent[remote] = _stamp(file)


class NoMirror:
    """The mirror of a folder that is its own address: it does nothing."""

    def nothing(self) -> None:
        """There is nothing to send."""

    def pull(self, *, checkpoints: bool = True) -> None:
        """There is nothing to fetch."""

    claim = push = send = deliver = nothing


def _record(data: bytes) -> dict[str, Any]:
    """The content of a mark; of one that is cut off, the mark of an unknown owner."""
    try:
        found = json.loads(data)
        return found if isinstance(found, dict) else {"mark": "?"}
    except (ValueError, RecursionError):
        return {"mark": "?"}


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _turn(file: Path) -> tuple[int, str]:
    """The order of sending: metrics before checkpoints, which are ahead of them, and the files in LAST at the end."""
    return (2 if file.name in LAST else int(file.parent.name == "checkpoints")), str(file)
