"""Which storage a folder lies on: whether another machine of a cluster could see it."""

from __future__ import annotations

import re
from pathlib import Path

SHARED = re.compile(
    r"nfs\d?|lustre|gpfs|beegfs|ceph|glusterfs|panfs|pvfs2|orangefs|wekafs|cifs|smb\d?|smbfs|afs|9p|virtiofs|ocfs2|gfs2"
    r"|fuse\.(?!fuseblk|snapfuse|portal|gvfsd|lxcfs).*"
)
"""File systems that several machines see at once."""
MOUNTS = Path("/proc/mounts")


def kind(path: Path, mounts: Path = MOUNTS) -> str:
    """The file system that a path lies (or would lie) on; empty where this machine does not say."""
    try:
        lines = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        return ""
    where = path.absolute().resolve()
    over = [words[2] for words in lines if len(words) > 2 and where.is_relative_to(_unescaped(words[1]))]
    return over[-1] if over else ""  # what is mounted later hides what was there


def is_shared(path: Path, mounts: Path = MOUNTS) -> bool:
    """Whether a path surely lies on storage that other machines see too."""
    return SHARED.fullmatch(kind(path, mounts)) is not None


def doubt(path: Path, what: str, mounts: Path = MOUNTS) -> str:
    """One sentence against a path that other machines must see; empty where nothing is to be said.

    A plain disk may be exported by this machine, so it is a doubt and no refusal.
    """
    name = kind(path, mounts)
    if not name or SHARED.fullmatch(name):
        return ""
    return (
        f"{what} {path} lies on {name}, a file system of this machine alone as far as can be seen: the job's nodes "
        "must find the same files there, so choose a folder on shared storage unless this one is exported to them."
    )


def _unescaped(text: str) -> str:
    """A mount point as it is: blanks are written in octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
