"""Write files whole or not at all."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

ASIDE = re.compile(r"\.(step-\d+\.ckpt|\w+\.jsonl?)\.\d+\.tmp")
"""Names of files that `write` has not renamed yet."""


def write(path: Path, data: bytes | Callable[[BinaryIO], Any]) -> None:
    """Write aside, flush to the disk, then rename: a reader sees the old file or the new one, whole.

    Args:
        path: of the file.
        data: its content, or a function that writes the content into an open file.

    Raises:
        OSError: the disk is full or not writable; the old file stays, and no part of a new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(aside, "wb") as f:
            data(f) if callable(data) else f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def sweep(folder: Path) -> None:
    """Remove what writes that were killed have left of a run's files; only the owner of the run's lock may."""
    for aside in [path for path in folder.glob(".*.tmp") if ASIDE.fullmatch(path.name)]:
        if not aside.name.endswith(f".{os.getpid()}.tmp"):
            aside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, see `write`; what JSON does not know becomes a text."""
    write(path, json.dumps(value, indent=1, default=str).encode())
