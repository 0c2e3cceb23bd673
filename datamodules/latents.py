"""What a finished first stage makes of every example, computed once and kept in a folder.

Moments are kept, not latents, so that each visit draws new latents; and those of every form of an example, such as its mirror image.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from datamodules.base import Batch, Finite, Source

Kept = Literal["float32", "float16"]
"""The numbers in the folder."""
KEY, MOMENTS = "key.json", "moments"
AT_ONCE = 64
"""Examples that are encoded at once."""
PROBES = 16
"""Examples that stand for all when two sets are compared."""
REASONS = {
    "first_stage": "by another first stage",
    "data": "of other images, or of another crop, size or mirroring",
    "dtype": "in another number format",
}
"""What differs, by entry of the key."""


def fingerprint(module: nn.Module) -> str:
    """The SHA-256 of all weights and buffers of a first stage, whatever run or file they came from."""
    found = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def key_of(source: Source, first_stage: str, dtype: Kept) -> dict[str, Any]:
    """What moments depend on: the first stage, the examples and their forms, and the number format.

    Raises:
        ValueError: the examples are not finite in number, or cannot be had by index.
    """
    if not isinstance(source, Finite):
        raise ValueError(
            "Latents are kept of examples that can be had by index, not of streams or of a laboratory's fresh ones."
        )
    probes = source.take(np.linspace(0, source.size - 1, min(PROBES, source.size)).astype(int))["x"]
    seen = hashlib.sha256(probes.contiguous().numpy().tobytes()).hexdigest()
    return {
        "first_stage": first_stage,
        "data": [source.size, source.forms, list(probes.shape[1:]), seen],
        "dtype": dtype,
    }


def kept(source: Source, folder: Path, *, first_stage: str, dtype: Kept) -> Finite | None:
    """The source of the moments that a folder holds; None where it holds none.

    Its batches have 'moments' [B, *], also as 'x', and what else the examples have.

    Raises:
        ValueError: they were made by another first stage, of other examples or in another number format; or as in `key_of`.
    """
    key = key_of(source, first_stage, dtype)
    if not (folder / KEY).is_file():
        return None
    found = json.loads((folder / KEY).read_text())
    for name, why in REASONS.items():
        if found.get(name) != key[name]:
            raise ValueError(f"The latents in {folder} were cached {why}: remove that folder, or name another one.")
    assert isinstance(source, Finite)
    columns = {file.stem: np.load(file, mmap_mode="r", allow_pickle=False) for file in folder.glob("*.npy")}
    return Finite(source.size, partial(rows_of, columns), source.forms)


def rows_of(columns: dict[str, np.ndarray], index: np.ndarray) -> Batch:
    """The rows `index` [B] of columns in files."""
    found = {name: torch.from_numpy(np.array(column[index])) for name, column in columns.items()}
    moments = found[MOMENTS].float()
    return found | {MOMENTS: moments, "x": moments}


def keep(source: Source, moments: Callable[[Tensor], Tensor], folder: Path, *, first_stage: str, dtype: Kept) -> None:
    """Write the moments of every form of every example, and what else examples have; the folder is whole or absent.

    Args:
        source: with examples by index.
        moments: x [B, *D] -> [B, *].
        folder: that does not hold any yet.
        first_stage: its `fingerprint`.
        dtype: of the numbers in the folder.

    Raises:
        ValueError: a moment is not finite in this number format; or as in `key_of`.
    """
    key = key_of(source, first_stage, dtype)
    assert isinstance(source, Finite)
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    aside.mkdir(parents=True)
    try:
        columns: dict[str, np.ndarray] = {}
        for start in range(0, source.size, AT_ONCE):
            index = np.arange(start, min(start + AT_ONCE, source.size))
            batch = dict(source.take(index))
            made = moments(batch.pop("x")).detach().cpu().numpy().astype(dtype)
            if not np.isfinite(made).all():
                raise ValueError(
                    f"Latents of the examples {start} to {start + len(index) - 1} are not finite as {dtype}."
                )
            for name, rows in {MOMENTS: made, **{k: v.numpy() for k, v in batch.items()}}.items():
                if name not in columns:
                    shape = (source.size, *rows.shape[1:])
                    columns[name] = np.lib.format.open_memmap(aside / f"{name}.npy", "w+", rows.dtype, shape)
                columns[name][index] = rows
        for column in columns.values():
            column.flush()  # type: ignore[attr-defined]  # a memmap
        (aside / KEY).write_text(json.dumps(key))
        aside.replace(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
