"""A local folder kept the same as one at a remote address, through fsspec (s3://, gs://, file://, hdfs:// by pyarrow ...)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ray_jobs.recipe import UsageError

_pushed: dict[tuple[str, str], tuple[int, int]] = {}


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


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def push(folder: Path, uri: str) -> None:
    """Upload what is new or changed, then delete remote checkpoints that are gone here."""
    fs, root = filesystem(uri)
    files = [f for f in sorted(folder.rglob("*")) if f.is_file() and not f.name.startswith(".")]
    for file in files:
        name = file.relative_to(folder).as_posix()
        stamp = _stamp(file)
        if _pushed.get((uri, name)) != stamp:
            fs.makedirs(os.path.dirname(f"{root}/{name}"), exist_ok=True)
            fs.put_file(str(file), f"{root}/{name}")
            _pushed[uri, name] = stamp
    kept = {f.name for f in files if f.parent.name == "checkpoints"}
    remote = fs.ls(f"{root}/checkpoints", detail=False) if kept else []
    for gone in (r for r in remote if r.rsplit("/", 1)[-1] not in kept):
        fs.rm_file(gone)


def exists(uri: str, name: str) -> bool:
    """Whether the remote folder holds the file `name`."""
    fs, root = filesystem(uri)
    return bool(fs.exists(f"{root}/{name}"))


def pull(uri: str, folder: Path, *, checkpoints: bool = True) -> None:
    """Download every file that is not here with the same size or is not a checkpoint (those never change, and may be left out)."""
    fs, root = filesystem(uri)
    for remote in fs.find(root):
        file = folder / os.path.relpath(remote, root)
        kept = file.parent.name == "checkpoints"
        if kept and (not checkpoints or (file.exists() and file.stat().st_size == fs.size(remote))):
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        fs.get_file(remote, str(file))
