"""One picture of several sets of samples, each with its name: the same noise by several samplers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ray_jobs.results.plots import BLUE, figure, save, tile

SHOWN = 16
"""Images of each set."""


def comparison(sets: Mapping[str, Any], path: Path) -> Path:
    """Sets of samples under each other, with their names, as a PNG.

    Args:
        sets: name -> images [n, 1 or 3, H, W] in [-1, 1], one row of at most 16 for each set; or points [n, D], a cloud of their first
            two dimensions for each set.

    Raises:
        ValueError: there is no set.
    """
    if not sets:
        raise ValueError("there is nothing to compare")
    images = next(iter(sets.values())).ndim == 4
    columns, size = (1, (6.8, 0.62)) if images else (min(4, len(sets)), (2.0, 2.2))
    rows = math.ceil(len(sets) / columns)
    with figure(size[0] * columns, size[1] * rows) as (fig, axes):
        axes.remove()
        low, high = limits(sets)
        for part, (name, x) in zip(fig.subplots(rows, columns, squeeze=False).ravel(), sets.items(), strict=False):
            part.set_xticks([])
            part.set_yticks([])
            part.grid(visible=False)
            if images:
                part.imshow(tile(np.clip((x[:SHOWN] + 1) * 127.5, 0, 255).round().astype(np.uint8), SHOWN))
                part.set_ylabel(name, rotation=0, ha="right", va="center")
            else:
                flat = x.reshape(len(x), -1)
                part.scatter(flat[:, 0], flat[:, min(1, flat.shape[1] - 1)], s=2, alpha=0.4, color=BLUE, linewidths=0)
                part.set(xlim=(low, high), ylim=(low, high))
                part.set_title(name)
        for part in fig.axes[len(sets) :]:
            part.remove()
        return save(fig, path)


def limits(sets: Mapping[str, Any]) -> tuple[float, float]:
    """Between which numbers nearly all of all sets lie, with a margin."""
    low, high = np.quantile(np.concatenate([np.ravel(x) for x in sets.values()]), [0.002, 0.998])
    margin = 0.1 * max(high - low, 1e-6)
    return low - margin, high + margin
