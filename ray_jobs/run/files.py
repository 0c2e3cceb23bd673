"""Files of a folder, read, written and deleted without leaving it: no link is followed, and a file is whole or absent.

A run folder may come from a stranger. A link in it would let `log.txt` or `checkpoints/` be any file or folder of the user. So everything
inside a run folder is opened, made and deleted here. The folder itself may be a link: its user has typed it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

PLAIN = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # the last one: a named pipe must not stop the reader for ever
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
MODES = {
    "r": os.O_RDONLY,
    "w": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "a": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    "r+": os.O_RDWR | os.O_CREAT,
}
"""What `opened` can do with a file; 'r+' makes an absent one and leaves the content of another."""

ASIDE = re.compile(r"\.(step-\d+\.ckpt|\w+\.jsonl?)\.\d+\.tmp")
"""Names of files that `write` has not renamed yet."""


def opened(path: Path, mode: str = "r", *, within: Path | None = None, **text: Any) -> IO[Any]:
    """Open a plain file as `open` does, without following a link.

    Args:
        path: of the file.
        mode: one of MODES, with 'b' for bytes; to append, the file's folder is made where it is missing.
        within: the folder that must not be left; by default the file's own.
        text: `encoding`, `errors`, `buffering`, as `open` takes them.

    Raises:
        OSError: it cannot be opened, or it is a link, a folder, a pipe or a device, or a link leads to it.
    """
    flags = MODES[mode.replace("b", "")]

    def plain(_: str, __: int) -> int:
        with _parent(path, within, make=mode.startswith("a")) as folder:
            return _plain(path, folder, flags)

    return open(path, mode, opener=plain, **text)


def _plain(path: Path, folder: int, flags: int) -> int:
    try:
        found = os.open(path.name, flags & ~os.O_TRUNC | PLAIN, 0o666, dir_fd=folder)
    except OSError as error:
        link = error.errno in (errno.ELOOP, errno.ENXIO)
        raise _no_file(path) if link else OSError(error.errno, error.strerror, str(path)) from None
    seen = os.fstat(found)
    if not stat.S_ISREG(seen.st_mode) or (seen.st_nlink > 1 and flags & (os.O_WRONLY | os.O_RDWR)):
        os.close(found)
        raise _no_file(path)
    if flags & os.O_TRUNC:
        os.ftruncate(found, 0)
    return found


def _no_file(path: Path) -> OSError:
    return OSError(errno.ELOOP, "it is a link or no plain file, which is never followed here", str(path))


@contextlib.contextmanager
def _parent(path: Path, within: Path | None, *, make: bool = False) -> Iterator[int]:
    """A descriptor of a file's folder, reached from `within` without a link."""
    within = within or path.parent
    if make:
        within.mkdir(parents=True, exist_ok=True)
    here = os.open(within, FOLDER)
    try:
        for name in path.parent.relative_to(within).parts:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=here)
            try:
                inner = os.open(name, FOLDER | os.O_NOFOLLOW, dir_fd=here)
            except NotADirectoryError:
                raise _no_file(within / name) from None
            os.close(here)
            here = inner
        yield here
    finally:
        os.close(here)


def write(path: Path, data: bytes | Callable[[BinaryIO], Any], *, within: Path | None = None) -> None:
    """Write aside, flush to the disk, then rename: a reader sees the old file or the new one, whole. A link is replaced, not followed.

    Args:
        path: of the file.
        data: its content, or a function that writes the content into an open file.
        within: the folder that must not be left; by default the file's own.

    Raises:
        OSError: the disk is full or not writable; the old file stays, and no part of a new one. It names `path`.
    """
    aside = f".{path.name}.{os.getpid()}.tmp"
    with _parent(path, within, make=True) as folder:
        fresh = os.O_WRONLY | os.O_CREAT | os.O_EXCL | PLAIN
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(aside, dir_fd=folder)  # of an earlier process with this number
            with os.fdopen(os.open(aside, fresh, 0o666, dir_fd=folder), "wb") as f:
                data(f) if callable(data) else f.write(data)
                f.flush()
                os.fsync(f.fileno())
            os.replace(aside, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.unlink(aside, dir_fd=folder)
            if isinstance(error, OSError) and error.filename == aside:
                raise OSError(error.errno, error.strerror, str(path)) from None
            raise


def sweep(folder: Path) -> None:
    """Remove what writes that were killed have left of a run's files; only the owner of the run's lock may."""
    for aside in [path for path in folder.glob(".*.tmp") if ASIDE.fullmatch(path.name)]:
        if not aside.name.endswith(f".{os.getpid()}.tmp"):
            aside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, see `write`; what JSON does not know becomes a text."""
    write(path, json.dumps(value, indent=1, default=str).encode())


def remove(path: Path, *, within: Path | None = None) -> None:
    """Delete a file, or a link itself; nothing happens where there is none.

    Raises:
        OSError: it cannot be deleted, or a link leads to it.
    """
    with contextlib.suppress(FileNotFoundError), _parent(path, within) as folder:
        os.unlink(path.name, dir_fd=folder)


def listed(folder: Path, pattern: str, *, within: Path | None = None) -> list[Path]:
    """The plain files of a folder that fit a pattern, in the order of their names; none where there is no folder, or it is a link."""
    with contextlib.suppress(OSError), _parent(folder / "*", within):
        return sorted(f for f in folder.glob(pattern) if f.is_file() and not f.is_symlink())
    return []


def stranger(folder: Path) -> Path | None:
    """The first thing below a folder that is neither a plain file nor a folder: a link, pipe, socket or device; None without one."""
    for root, folders, names in os.walk(folder):
        for name in sorted([*folders, *names]):
            kind = os.lstat(os.path.join(root, name)).st_mode
            if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
                return Path(root, name)
    return None


class Picture(NamedTuple):
    """A file that a page can show."""

    kind: str
    """png or gif."""
    data: bytes


BEGINNINGS = {"png": b"\x89PNG\r\n\x1a\n", "gif": b"GIF89a"}
"""With which the pictures of each kind begin."""


def picture(path: Path, most: int = 2**26) -> Picture | None:
    """A PNG or a GIF; None for a file that is neither, is a link, or is larger than `most` bytes."""
    with contextlib.suppress(OSError), opened(path, "rb") as file:
        data = file.read(most + 1)
        kind = next((kind for kind, start in BEGINNINGS.items() if data.startswith(start)), None)
        return Picture(kind, data) if kind and len(data) <= most else None
    return None


def last_lines(path: Path, count: int = 12) -> list[str]:
    """The last `count` lines of a file that are not blank, reading its end only; none of a file that cannot be read."""
    try:
        with opened(path, "rb") as f:
            f.seek(max(0, f.seek(0, os.SEEK_END) - 20_000))
            text = f.read().decode(errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]
