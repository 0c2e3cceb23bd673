"""What this user approved: a key that seals their records, files approved by their hash, and what they named on command lines.

All of it is in the user's state folder, which nobody else can write. What another folder holds is data until the user approves it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hmac
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

KEY, APPROVED = "key", "approved"
ADDRESSES, RECIPES = "addresses", "recipes"
"""Files of the state folder: the key, the hashes by path; and, one in a line, the addresses of clusters and the files of recipes."""


def state_folder() -> Path:
    """The folder for records of jobs and clusters: REPRISE_STATE, or XDG_STATE_HOME/reprise, or ~/.local/state/reprise."""
    if own := os.environ.get("REPRISE_STATE"):
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".local/state") / "reprise"


def digest(*parts: bytes) -> str:
    """One hash of several byte strings, of which each counts with its length."""
    return sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).hexdigest()


def seal(content: Mapping[str, Any]) -> str:
    """A mark that only this user can make for this content; '' where the state folder cannot be written."""
    key = _key()
    return hmac.new(key, _canonical(content), sha256).hexdigest() if key else ""


def is_sealed(content: Mapping[str, Any], mark: object) -> bool:
    """Whether this user made the mark for this content."""
    return isinstance(mark, str) and bool(mark) and hmac.compare_digest(mark.encode(), seal(content).encode())


def approve(path: Path, hash: str) -> None:
    """Record that the user approves the file with this hash.

    Raises:
        OSError: the state folder cannot be written.
    """
    with _changing(APPROVED) as file:
        known = {**_parsed(file.read()), str(path.absolute()): hash}
        file.seek(0)
        file.truncate()
        file.write(json.dumps(known, indent=1))


def approved(path: Path, hash: str) -> bool | None:
    """Whether the user approves the file as it is now; None where they never approved it."""
    known = _parsed(_read(APPROVED)).get(str(path.absolute()))
    return None if known is None else known == hash


def remember(what: str, among: str) -> None:
    """Record what the user named on a command line; an error while writing is ignored: it is then asked for again.

    Args:
        what: an address or a file.
        among: ADDRESSES or RECIPES.
    """
    if not knows(what, among) and "\n" not in what:
        with contextlib.suppress(OSError), _changing(among) as file:
            file.seek(0, os.SEEK_END)
            file.write(f"{what}\n")


def knows(what: str, among: str) -> bool:
    """Whether the user named this on a command line before; see `remember`."""
    return what in _read(among).splitlines()


def private(path: Path, flags: int) -> int:
    """Open a file of this user with mode 0600; a link is not followed."""
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _canonical(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _key() -> bytes:
    """The user's key of 256 bits, made where there is none; empty where it cannot be."""
    folder = state_folder()
    if not (found := _read(KEY)):
        fresh = folder / f".{KEY}.{secrets.token_hex(8)}"
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with open(private(fresh, os.O_WRONLY | os.O_EXCL), "w") as file:
                file.write(secrets.token_hex(32))
            with contextlib.suppress(FileExistsError):  # another process was first: its key is whole, and stays
                os.link(fresh, folder / KEY)
            fresh.unlink()
        found = _read(KEY)
    return found.encode()


def _read(name: str) -> str:
    """The text of one of the files; '' where there is none, or where another user owns or can write it."""
    try:
        with open(os.open(state_folder() / name, os.O_RDONLY | os.O_NOFOLLOW), encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            return file.read() if status.st_uid == os.getuid() and not status.st_mode & 0o022 else ""
    except (OSError, UnicodeError):
        return ""


@contextlib.contextmanager
def _changing(name: str) -> Iterator[Any]:
    """One of the files, open for reading and writing, and locked against other processes of this user."""
    folder = state_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(private(folder / name, os.O_RDWR), "r+", encoding="utf-8") as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _parsed(text: str) -> dict[str, str]:
    with contextlib.suppress(ValueError, RecursionError):
        if isinstance(found := json.loads(text), dict):
            return found
    return {}
