"""A run's place on this machine: its folder, the lock on it, and what becomes of the run where the folder vanishes while it trains."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, BinaryIO

from ray_jobs.errors import UsageError
from ray_jobs.run.files import opened, remove, stranger, write
from ray_jobs.run.private import copies, private
from ray_jobs.run.records import LARGEST

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a disk that has no room: there the user makes room, and no checkpoint is written elsewhere."""


AT_WORK = "Another process is at work in"
"""The head of the sentence about a folder whose lock another process holds."""


HELD: set[IO[Any]] = set()
"""The lock files that this process holds."""


def _let_go() -> None:
    """In a forked child, close the parent's locks, which would otherwise be held until the child ends."""
    for lock in HELD:
        lock.close()
    HELD.clear()


os.register_at_fork(after_in_child=_let_go)


class Place:
    """The folder of one run.

    Args:
        path: the folder.
        name: what the user calls it: its path or remote address.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self.record = b""
        """run.json as this process has made or read it."""
        self._lock: IO[Any] | None = None
        self._rescue: Path | None = None

    def holds_run(self) -> bool:
        """Whether there is a run.json.

        Raises:
            UsageError: the path cannot be used, or run.json is a link or no plain file.
        """
        try:
            if stat.S_ISREG(os.lstat(self.path / "run.json").st_mode):
                return True
        except (FileNotFoundError, NotADirectoryError):
            return False
        except (OSError, ValueError) as error:  # a name that is too long, or has a null character
            raise self.unusable(error) from None
        self.refuse_links()
        raise UsageError(f"{self.path / 'run.json'} is a folder: {self.name} is no run folder.")

    def refuse_links(self) -> None:
        """Refuse a folder in which something is neither a plain file nor a folder.

        Raises:
            UsageError: something is; the sentence names it.
        """
        try:
            found = stranger(self.path)
        except (OSError, ValueError) as error:
            raise self.unusable(error) from None
        if found is not None:
            raise UsageError(
                f"{found} is a link or no plain file: inside a run folder none is followed. Put the file itself in its place."
            )

    def unusable(self, error: Exception) -> UsageError:
        """The sentence about a folder or file that cannot be used."""
        return UsageError(f"The run folder {self.name} cannot be used ({getattr(error, 'strerror', None) or error}).")

    def read(self, name: str) -> bytes | None:
        """A file's content, cut where it is longer than any record; None where there is none.

        Raises:
            UsageError: it cannot be read, or is a link.
        """
        try:
            return self._content(name)
        except (OSError, ValueError) as error:
            raise self.unusable(error) from None

    def _content(self, name: str) -> bytes | None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), opened(self.path / name, "rb") as file:
            return file.read(LARGEST + 1)
        return None

    def remember(self) -> None:
        """Keep run.json, for the case that the folder vanishes."""
        self.record = self.read("run.json") or b""

    # ---- the lock

    def take(self) -> None:
        """Lock the folder until this process ends.

        Raises:
            UsageError: another process uses it, or it cannot be written.
        """
        try:
            self._lock = opened(self.path / ".lock", "r+")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise UsageError(f"{AT_WORK} {self.name}: wait for it, or choose another --out.") from None
        except OSError as error:
            raise self.unusable(error) from None
        HELD.add(self._lock)

    def enter(self) -> None:
        """Make the folder where it is missing, and lock it.

        Raises:
            UsageError: another process uses it, or it cannot be made or written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self.unusable(error) from None
        self.take()

    def held(self) -> bool:
        """Whether a process holds the lock."""
        try:
            with opened(self.path / ".lock") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def release(self) -> None:
        """Unlock the folder."""
        if self._lock is not None:
            HELD.discard(self._lock)
            self._lock.close()
        self._lock = None

    # ---- a folder that vanishes

    def keep(self) -> bool:
        """Make the folder again, with run.json and lock, where it vanished while the run trained; whether it had.

        Raises:
            UsageError: another run or process has its place.
            OSError: it cannot be made.
        """
        if not self.record:
            return False
        if self._lock is not None and not self._still_ours():
            self.path.mkdir(parents=True, exist_ok=True)
            self.release()
            self.take()
        there = self._content("run.json")
        if there is None:
            write(self.path / "run.json", self.record)
        elif there != self.record:
            raise UsageError(f"{self.name} holds another run now: this one has lost its folder, and ends.")
        return there is None

    def _still_ours(self) -> bool:
        """Whether the locked file is the one in the folder."""
        assert self._lock is not None
        with contextlib.suppress(OSError):
            return os.path.samestat(os.fstat(self._lock.fileno()), os.lstat(self.path / ".lock"))
        return False

    def rescue(self, error: OSError, name: str, save: Callable[[BinaryIO], Any]) -> OSError:
        """Write a checkpoint that the folder cannot take into the folder of local copies, as a run that can be resumed.

        Args:
            error: why the folder cannot take it; of a full disk nothing is written elsewhere.
            name: of the checkpoint's file.
            save: writes the checkpoint.

        Returns:
            the error, with the place of the checkpoint.
        """
        if error.errno in FULL or not self.record:
            return error
        try:
            other = private(copies() / f"rescued-{sha256(str(self.path.absolute()).encode()).hexdigest()[:16]}")
            write(other / "run.json", self.record)
            write(other / "checkpoints" / name, save, within=other)
            for old in (other / "checkpoints").glob("*.ckpt"):
                if old.name != name:
                    remove(old, within=other)
        except (OSError, UsageError):
            return error
        self._rescue = other
        why = f"{error.strerror or error}; it lies in {other}, from where 'reprise resume {other}' continues"
        return OSError(error.errno, why, str(self.path))

    def rescued(self) -> None:
        """Delete what was rescued: the folder has a newer checkpoint."""
        if self._rescue is not None:
            shutil.rmtree(self._rescue, ignore_errors=True)
        self._rescue = None
