"""Fragments: the steps that a runner returns, in plain numpy, and how they become the tensors of an update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ray_jobs.rl.contract import Steps


class Fragment(NamedTuple):
    """T steps of a runner's B environments: the fields of `contract.Steps` in numpy, and what to report."""

    steps: tuple[np.ndarray, ...]
    """obs [T+1, B, *O], action, reward, terminated, truncated [T, B], last_obs [K, *O]; the reward of N agents is [T, B, N]"""
    extras: dict[str, np.ndarray]
    version: int
    """Of the weights that the runner acted with."""
    index: int
    """The runner's."""
    returns: list[float]
    """Of the episodes finished in it, from the environments' own rewards, summed over agents."""
    lengths: list[int]
    acting: float
    """Seconds in the policy."""
    stepping: float
    """Seconds in the environments."""
    gradient: np.ndarray | None = None
    """[P] of the algorithm's loss over the steps, for algorithms that learn from gradients."""
    learning: float = 0.0
    """Seconds in differentiating it."""
    begins: bool = False
    """Whether its first step does not follow the last one from this slot, because the runner was replaced or lost its environments."""

    def without_steps(self, gradient: np.ndarray, log: dict[str, np.ndarray], learning: float) -> Fragment:
        """The fragment with a gradient in place of observations and actions; rewards and masks stay, to be counted."""
        obs, action, *counted, last = self.steps
        return self._replace(
            steps=(obs[:0], action[:0], *counted, last[:0]), extras=log, gradient=gradient, learning=learning
        )


def tensors(fragments: Sequence[Fragment], device: torch.device) -> Steps:
    """Fragments [T, B_i] side by side: [T, sum B_i], on the learner's device."""
    *columns, cuts = zip(*(f.steps for f in fragments), strict=True)
    obs, action, reward, terminated, truncated = (torch.from_numpy(joined(c)).to(device) for c in columns)
    order = order_of_cuts(columns[4]) if len(fragments) > 1 else slice(None)
    last = torch.from_numpy(joined(cuts, 0)[order]).to(device)
    extras = {k: torch.from_numpy(joined([f.extras[k] for f in fragments])).to(device) for k in fragments[0].extras}
    return Steps(as_float(obs), action, reward, terminated, truncated, as_float(last), extras)


def joined(parts: Sequence[np.ndarray], axis: int = 1) -> np.ndarray:
    """Arrays side by side; a single one is not copied, unless it is read-only, as arrays from Ray's store are."""
    return parts[0] if len(parts) == 1 and parts[0].flags.writeable else np.concatenate(parts, axis)


def as_float(x: Tensor) -> Tensor:
    """Images stay uint8, all else becomes float32."""
    return x if x.dtype == torch.uint8 else x.float()


def order_of_cuts(truncated: Sequence[np.ndarray]) -> np.ndarray:
    """For each last observation of the joined data, its index in the fragments' concatenated last observations."""
    first = np.cumsum([0, *(t.shape[1] for t in truncated)])
    at = [np.argwhere(t) + np.array([0, b]) for t, b in zip(truncated, first, strict=False)]
    steps, column = np.concatenate(at).T
    return np.lexsort((column, steps))
