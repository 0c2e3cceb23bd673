"""The interface of several environments stepped together, and the result of a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import gymnasium as gym
import numpy as np


class StepResult(NamedTuple):
    """The result of a step of B environments."""

    obs: np.ndarray
    """[B, *O], before any restart"""
    reward: np.ndarray
    """[B], or [B, N] where each has N agents"""
    terminated: np.ndarray
    """[B] bool"""
    truncated: np.ndarray
    """[B] bool"""
    score: np.ndarray | None = None
    """[B]: the reward to report, where it differs from the one to learn from."""
    finished: np.ndarray | None = None
    """[B] bool: where an episode to report is over, if that is not at every boundary."""

    @property
    def boundary(self) -> np.ndarray:
        """[B] bool: the last step of an episode, for either reason."""
        return self.terminated | self.truncated

    @property
    def over(self) -> np.ndarray:
        """[B] bool: the last step of an episode that is reported."""
        return self.boundary if self.finished is None else self.finished

    @property
    def gained(self) -> np.ndarray:
        """[B]: what the step adds to the episode's reported return; for several agents the sum of their rewards."""
        gained = self.reward if self.score is None else self.score
        return gained if gained.ndim == 1 else gained.sum(1)


class VectorEnv(Protocol):
    """B environments of one kind."""

    obs_space: gym.spaces.Box
    action_space: gym.Space

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """Seed and restart all; observations [B, *O]."""
        ...

    def step(self, action: np.ndarray) -> StepResult:
        """One step of all with actions [B, *A]. Rows at a boundary must be restarted before the next."""
        ...

    def restart(self, rows: np.ndarray) -> np.ndarray:
        """Restart the rows [B] bool, which must all be at a boundary; observations [B, *O], those of the other rows unchanged."""
        ...

    def state(self) -> bytes | None:
        """Everything to continue from, or None where the environments cannot be saved."""
        ...

    def load(self, state: bytes) -> None:
        """Continue from a `state`.

        Raises:
            Untrusted: it could run a program; nothing has changed.
        """
        ...

    def close(self) -> None:
        """Release what the environments hold."""
        ...
