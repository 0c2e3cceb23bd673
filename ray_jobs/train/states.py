"""Checkpoints of a process's state: its numpy arrays are stored as tensors, because `weights_only` loads no arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ray_jobs.recipe.process import State


def packed(state: State, step: int) -> dict[str, Any]:
    """The checkpoint of a state: numpy arrays as tensors, with their names.

    Raises:
        TypeError: the state holds something else than `recipe.process.State` allows.
    """
    import torch

    for name, value in state.items():
        array = isinstance(value, np.ndarray) and value.flags.c_contiguous
        if not (array or isinstance(value, torch.Tensor) or type(value) in (bool, int, float)):
            kind = f"{type(value).__module__}.{type(value).__name__}"
            raise TypeError(
                f"the state's {name} is a {kind}: it must be a tensor, an array in C order or a plain number"
            )
    arrays = [name for name, value in state.items() if isinstance(value, np.ndarray)]
    return {"step": step, "arrays": arrays, "state": state | {n: torch.from_numpy(state[n]) for n in arrays}}


def unpacked(checkpoint: Mapping[str, Any]) -> State:
    """The state that a checkpoint holds."""
    state = dict(checkpoint["state"])
    return state | {name: state[name].numpy() for name in checkpoint["arrays"]}
