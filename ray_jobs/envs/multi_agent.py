"""Environments of several agents: PettingZoo's parallel ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from ray_jobs.envs.env_state import restored, saved
from ray_jobs.envs.spaces import check_holds, number
from ray_jobs.envs.steps import StepResult


class Padded(gym.spaces.Box):
    """Vectors of N agents, [N, L] float32: of agent k only the first sizes[k] entries count.

    The others are 0 in observations and ignored in actions; their bounds are -1 and 1.
    """

    def __init__(self, boxes: Sequence[gym.spaces.Box]) -> None:
        self.sizes = tuple(int(np.prod(b.shape)) for b in boxes)
        low, high = (
            -np.ones((len(boxes), max(self.sizes)), np.float32),
            np.ones((len(boxes), max(self.sizes)), np.float32),
        )
        for k, (box, size) in enumerate(zip(boxes, self.sizes, strict=True)):
            low[k, :size], high[k, :size] = box.low.ravel(), box.high.ravel()
        super().__init__(low, high, dtype=np.float32)


class MultiAgent:
    """B worlds of N agents each, in the order of `possible_agents`.

    Observations [B, N, O], rewards [B, N]. Actions are [B, N] int64 in MultiDiscrete, or [B, N, A] in Padded where they are
    continuous. A world's episode is over when all its agents' are: truncated if the last of them were, terminated otherwise. An
    agent that is done before the others observes 0, gets reward 0, and its actions are ignored.

    Raises:
        ValueError: an observation does not flatten to a vector, or the actions are neither all Discrete nor all Box.
    """

    obs_space: Padded
    action_space: gym.spaces.MultiDiscrete | Padded

    def __init__(self, envs: Sequence[Any]) -> None:
        self.envs, first = list(envs), envs[0]
        self.agents = list(first.possible_agents)
        self.obs_spaces = [first.observation_space(a) for a in self.agents]
        self.action_spaces = [first.action_space(a) for a in self.agents]
        for space in self.obs_spaces:
            if not space.is_np_flattenable:
                raise ValueError(
                    f"The observation space {space} is not supported: it must be one that flattens to a Box."
                )
        self.obs_space = Padded([gym.spaces.flatten_space(s) for s in self.obs_spaces])
        self.action_space = joint(self.action_spaces)
        self.obs = np.zeros((len(self.envs), *self.obs_space.shape), np.float32)

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """As `VectorEnv.reset`."""
        for i, (env, seed) in enumerate(zip(self.envs, seeds, strict=True)):
            self._store(i, env.reset(seed=seed)[0])
        return self.obs.copy()

    def _store(self, i: int, seen: Mapping[str, Any]) -> None:
        """Store the observations of the agents of world i."""
        self.obs[i] = 0.0
        for k, (agent, size) in enumerate(zip(self.agents, self.obs_space.sizes, strict=True)):
            if agent in seen:
                check_holds(self.obs_spaces[k], seen[agent])
                self.obs[i, k, :size] = gym.spaces.flatten(self.obs_spaces[k], seen[agent])

    def step(self, action: np.ndarray) -> StepResult:
        """As `VectorEnv.step`."""
        n = len(self.envs)
        reward, terminated, truncated = np.zeros((n, len(self.agents))), *np.zeros((2, n), bool)
        for i, env in enumerate(self.envs):
            chosen = {a: self.choice(k, action[i, k]) for k, a in enumerate(self.agents) if a in env.agents}
            seen, gained, ended, cut, _ = env.step(chosen)
            self._store(i, seen)
            reward[i] = [number(gained.get(a, 0.0), "reward") for a in self.agents]
            over = all(ended[a] or cut[a] for a in chosen)
            truncated[i] = over and any(cut[a] and not ended[a] for a in chosen)
            terminated[i] = over and not truncated[i]
        return StepResult(self.obs.copy(), reward, terminated, truncated)

    def choice(self, k: int, action: np.ndarray) -> Any:
        """Agent k's action in its own space."""
        if isinstance(self.action_space, gym.spaces.MultiDiscrete):
            return int(action)
        return action[: self.action_space.sizes[k]].reshape(self.action_spaces[k].shape)

    def restart(self, rows: np.ndarray) -> np.ndarray:
        """As `VectorEnv.restart`."""
        for i in np.flatnonzero(rows):
            self._store(i, self.envs[i].reset()[0])
        return self.obs.copy()

    def state(self) -> bytes | None:
        """As `VectorEnv.state`."""
        return saved((self.envs, self.obs))

    def load(self, state: bytes) -> None:
        """As `VectorEnv.load`."""
        envs, obs = restored(state, (self.envs, self.obs))
        self.close()
        self.envs, self.obs = envs, obs

    def close(self) -> None:
        """As `VectorEnv.close`."""
        for env in self.envs:
            env.close()


def joint(spaces: Sequence[gym.Space]) -> gym.spaces.MultiDiscrete | Padded:
    """The joint action space.

    Raises:
        ValueError: they are neither all Discrete (from 0) nor all Box.
    """
    if all(isinstance(s, gym.spaces.Discrete) and s.start == 0 for s in spaces):
        return gym.spaces.MultiDiscrete([s.n for s in spaces])
    if all(isinstance(s, gym.spaces.Box) for s in spaces):
        return Padded(spaces)
    raise ValueError(
        f"The action spaces {', '.join(map(str, spaces))} are not supported: they must be all Discrete (from 0) or all Box."
    )
