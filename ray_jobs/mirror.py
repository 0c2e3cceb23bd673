"""A local folder kept the same as one at a remote address, through fsspec (s3://, gs://, file://, hdfs:// by pyarrow ...).

Storage that fails for a while ends no training: what is new stays in the local copy and is sent when it can be. A file `writer` at the
address names who writes there. Whoever begins to train claims it; one that was taken for dead, and lives, finds another's name and
writes no more.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ray_jobs.recipe import UsageError

PATIENCE = 600.0
"""Seconds for which a finished run is offered to storage that fails."""
LAST = ("result.json", "status.json")
"""What says how far a run is comes after what it speaks of."""


class Unreachable(UsageError):
    """Storage cannot be used now; one sentence says why."""


class Superseded(UsageError):
    """Another process has gone on with the run at its address."""


def filesystem(uri: str) -> tuple[Any, str]:
    """The file system of `uri` and the path within it.

    Raises:
        UsageError: the protocol is unknown or its package is missing.
    """
    import fsspec

    try:
        return fsspec.core.url_to_fs(uri)
    except (ValueError, ImportError) as error:
        raise UsageError(f"The address {uri} cannot be used: {error}") from None


@contextlib.contextmanager
def asked(uri: str) -> Iterator[None]:
    """Whatever a storage's client raises, as one sentence."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:  # each client has exceptions of its own
        first = (str(error).strip() or "no reason given").splitlines()[0]
        raise Unreachable(f"{uri} cannot be used now ({type(error).__name__}: {first})") from error


class Mirror:
    """The local copy of what lies at `uri`.

    Args:
        tell: gets a line when the storage begins to fail, and one when it is back.
    """

    def __init__(self, folder: Path, uri: str, tell: Callable[[str], None]) -> None:
        self.folder, self.uri, self.tell = folder, uri, tell
        self.sent: dict[str, tuple[int, int]] = {}
        self.token = ""
        self.late = False

    # ---- who writes

    def writer(self, fs: Any, root: str) -> str:
        """Who has claimed the address; '' for nobody."""
        try:
            return fs.cat_file(f"{root}/writer").decode()
        except FileNotFoundError:
            return ""

    def known(self) -> str:
        """Whose work the local copy holds."""
        path = self.folder / ".writer"
        return self.token or (path.read_text() if path.exists() else "")

    def claim(self) -> None:
        """Say that from now on it is this process that writes; once.

        Raises:
            Unreachable: the storage cannot be used now.
        """
        if self.token:
            return
        fs, root = filesystem(self.uri)
        token = uuid.uuid4().hex
        with asked(self.uri):
            fs.makedirs(root, exist_ok=True)
            fs.pipe_file(f"{root}/writer", token.encode())
        self.token = token
        (self.folder / ".writer").write_text(token)

    # ---- sending

    def push(self) -> None:
        """Upload what is new or changed, then, where this process has claimed it, delete remote checkpoints that are gone here.

        Raises:
            Unreachable: the storage cannot be used now.
            Superseded: another process has claimed it since.
        """
        fs, root = filesystem(self.uri)
        with asked(self.uri):
            if self.writer(fs, root) not in ("", self.known()):
                raise Superseded(f"Another process has gone on with {self.uri}: this one writes there no more.")
            files = [f for f in self.folder.rglob("*") if f.is_file() and not f.name.startswith(".")]
            for file in sorted(files, key=_turn):
                self._upload(fs, file, f"{root}/{file.relative_to(self.folder).as_posix()}")
            kept = {f.name for f in files if f.parent.name == "checkpoints"}
            remote = fs.ls(f"{root}/checkpoints", detail=False) if kept and self.token else []
            for gone in (r for r in remote if r.rsplit("/", 1)[-1] not in kept):
                fs.rm_file(gone)

    def _upload(self, fs: Any, file: Path, remote: str) -> None:
        stamp = _stamp(file)
        if self.sent.get(remote) != stamp:
            fs.makedirs(os.path.dirname(remote), exist_ok=True)
            fs.put_file(str(file), remote)
            self.sent[remote] = stamp

    def send(self) -> None:
        """As `push`; storage that cannot be used is told of once, and asked again the next time.

        Raises:
            Superseded: another process has claimed it since.
        """
        try:
            self.push()
        except Unreachable as error:
            if not self.late:
                self.tell(f"{error}: what is new is kept in {self.folder} and sent when it can be; training goes on.")
            self.late = True
            return
        if self.late:
            self.tell(f"{self.uri} can be used again: everything is there.")
        self.late = False

    def deliver(self) -> None:
        """As `send`, again and again for `PATIENCE` seconds.

        Raises:
            Unreachable: the storage could not be used in all that time.
            Superseded: another process has claimed it since.
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
        with asked(self.uri):
            return bool(fs.exists(f"{root}/{name}"))

    def pull(self) -> None:
        """Make the local copy that of the address, unless nobody else has written there: then it is as new, or newer.

        Raises:
            Unreachable: the storage cannot be used now.
        """
        fs, root = filesystem(self.uri)
        with asked(self.uri):
            writer = self.writer(fs, root)
            if writer and writer == self.known() and (self.folder / "run.json").exists():
                return
            names = [(remote, os.path.relpath(remote, root)) for remote in fs.find(root)]
            found = [(remote, self.folder / name) for remote, name in names if name != "writer"]
            if not found:
                return
            for remote, file in found:
                self._download(fs, remote, file)
            here = {file for _, file in found}
            for stale in (f for f in (self.folder / "checkpoints").glob("*.ckpt") if f not in here):
                stale.unlink(missing_ok=True)
            self.token = ""
            (self.folder / ".writer").write_text(writer)

    def _download(self, fs: Any, remote: str, file: Path) -> None:
        """Fetch a file; a checkpoint that is here with the same size is the same: those never change."""
        if not (file.parent.name == "checkpoints" and file.exists() and file.stat().st_size == fs.size(remote)):
            file.parent.mkdir(parents=True, exist_ok=True)
            fs.get_file(remote, str(file))
        self.sent[remote] = _stamp(file)


class Unmirrored:
    """Of a folder that is its own address."""

    def nothing(self) -> None:
        """There is nobody to tell."""

    claim = push = send = deliver = pull = nothing


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _turn(file: Path) -> tuple[int, str]:
    """Metrics before the checkpoints that are ahead of them, and what says how far it is last."""
    return (2 if file.name in LAST else int(file.parent.name == "checkpoints")), str(file)
