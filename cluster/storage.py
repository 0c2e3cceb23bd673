"""The file system of a folder: whether other machines of a cluster can see it."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

SHARED = re.compile(
    r"nfs\d?|lustre|gpfs|beegfs|ceph|glusterfs|panfs|pvfs2|orangefs|wekafs|cifs|smb\d?|smbfs|afs|9p|virtiofs|ocfs2|gfs2"
    r"|fuse\.(?!fuseblk|snapfuse|portal|gvfsd|lxcfs).*"
)
"""Names of file systems that several machines share."""
MOUNTS = Path("/proc/mounts")


def kind(path: Path, mounts: Path = MOUNTS) -> str:
    """The name of the file system of a path, which need not exist; '' where this machine does not list its mounts."""
    try:
        lines = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        return ""
    where = path.absolute().resolve()
    over = [words[2] for words in lines if len(words) > 2 and where.is_relative_to(_unescaped(words[1]))]
    return over[-1] if over else ""  # a later mount hides an earlier one


def is_shared(path: Path, mounts: Path = MOUNTS) -> bool:
    """Whether a path is certainly on storage that other machines see too."""
    return SHARED.fullmatch(kind(path, mounts)) is not None


def warning(path: Path, what: str, mounts: Path = MOUNTS) -> str:
    """A warning about a path that other machines must see, where they may not; else ''.

    This machine may export a plain disk to others, so this is a warning and no error.

    Args:
        path: the path.
        what: its name in the warning.
        mounts: the table of mounts.
    """
    name = kind(path, mounts)
    if not name or SHARED.fullmatch(name):
        return ""
    return (
        f"{what} {path} lies on {name}, a file system of this machine alone as far as can be seen: the job's nodes "
        "must find the same files there, so choose a folder on shared storage unless this one is exported to them."
    )


def _unescaped(text: str) -> str:
    """A mount point with its octal escapes (of blanks) resolved."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def keep_out_of_git(folder: Path) -> None:
    """Write a `.gitignore` that leaves the whole folder out, where there is none; a link of that name is not followed."""
    path = folder / ".gitignore"
    with (
        contextlib.suppress(FileExistsError),
        open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "w") as file,
    ):
        file.write("*\n")
