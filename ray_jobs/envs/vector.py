"""Several copies of an environment stepped together, without steps that only reset.

Gymnasium's vector environments spend a step on each reset (NEXT_STEP), which must be neither trained on nor counted. Here
`step` returns the true next observations, and the caller restarts the rows that ended before it acts again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv

from ray_jobs.envs.atari import Atari
from ray_jobs.envs.env_state import restored, saved
from ray_jobs.envs.failures import EnvironmentFailed, time_limit
from ray_jobs.envs.making import maker, missing_package, registered
from ray_jobs.envs.multi_agent import MultiAgent
from ray_jobs.envs.spaces import Observations, number
from ray_jobs.envs.steps import StepResult, VectorEnv

MAKE_LIMIT = 60.0
"""Seconds that making environments may take; an alarm may come as late as twice that."""
FEW = 4
"""Most cart-poles that are faster stepped one after the other than as arrays."""


class SequentialEnv:
    """Single environments stepped one after the other; observations become what `spaces.Observations` says.

    Raises:
        ValueError: their observations are no Box and do not flatten to one.
    """

    def __init__(self, envs: Sequence[gym.Env]) -> None:
        self.envs = list(envs)
        self.seen = Observations(self.envs[0].observation_space)
        self.obs_space, self.action_space = self.seen.space, as_vector(self.envs[0].action_space)
        self.single = self.action_space is not self.envs[0].action_space
        self.obs = np.zeros((len(self.envs), *self.obs_space.shape), self.obs_space.dtype)

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """As `VectorEnv.reset`."""
        for i, (env, seed) in enumerate(zip(self.envs, seeds, strict=True)):
            self._store(i, env.reset(seed=seed)[0])
            env.action_space.seed(seed)
        return self.obs.copy()

    def step(self, action: np.ndarray) -> StepResult:
        """As `VectorEnv.step`."""
        reward, terminated, truncated = np.empty(len(self.envs)), *np.zeros((2, len(self.envs)), bool)
        for i, env in enumerate(self.envs):
            obs, gained, over, cut, _ = env.step(action[i].reshape(()) if self.single else action[i])
            reward[i], terminated[i], truncated[i] = number(gained, "reward"), number(over, "flag"), number(cut, "flag")
            self._store(i, obs)
        return StepResult(self.obs.copy(), reward, terminated, truncated)

    def _store(self, row: int, obs: Any) -> None:
        """Store an observation."""
        self.obs[row] = self.seen(obs)

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
        self.seen = Observations(self.envs[0].observation_space)  # earlier versions saved environments that flattened

    def close(self) -> None:
        """As `VectorEnv.close`."""
        for env in self.envs:
            env.close()


class CartPole:
    """Gymnasium's numpy-vectorised cart-pole, restarted by the caller: same physics, same limits."""

    def __init__(self, n: int, **options: Any) -> None:
        self.env = CartPoleVectorEnv(n, **options)
        self.obs_space, self.action_space = self.env.single_observation_space, self.env.single_action_space

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """As `VectorEnv.reset`; all rows draw from one generator, seeded by the first seed."""
        return self.env.reset(seed=int(seeds[0]))[0]

    def step(self, action: np.ndarray) -> StepResult:
        """As `VectorEnv.step`."""
        obs, reward, terminated, truncated, _ = self.env.step(action)
        self.env.prev_done[:] = False  # else the next step would only reset these rows
        return StepResult(obs, reward, terminated, truncated & ~terminated)

    def restart(self, rows: np.ndarray) -> np.ndarray:
        """As `VectorEnv.restart`."""
        env = self.env
        env.state[:, rows] = env.np_random.uniform(env.low, env.high, (4, int(rows.sum())))
        env.steps[rows] = 0
        return env.state.T.astype(np.float32)

    def state(self) -> bytes | None:
        """As `VectorEnv.state`."""
        return saved(self.env)

    def load(self, state: bytes) -> None:
        """As `VectorEnv.load`."""
        self.env = restored(state, self.env)

    def close(self) -> None:
        """As `VectorEnv.close`."""
        self.env.close()


def as_vector(space: gym.Space) -> gym.Space:
    """A Box of a single number as one of a vector; other spaces as they are."""
    if not isinstance(space, gym.spaces.Box) or space.shape:
        return space
    return gym.spaces.Box(space.low[None], space.high[None], dtype=space.dtype)


def vector(env: str, n: int, options: Mapping[str, Any]) -> VectorEnv:
    """n copies of an environment, natively vectorised where that is faster and gives the same.

    `env` is a Gymnasium id, alone or as 'package.module:id', or 'package.module:function', where the function makes a Gymnasium
    environment or a parallel one of PettingZoo.

    Raises:
        ValueError: there is no such environment, a package is missing, or an option or space does not fit.
        EnvironmentFailed: making it raised, or hangs.
    """
    with time_limit(
        MAKE_LIMIT,
        lambda: 0,
        lambda: EnvironmentFailed(f"The environment {env} was not made within {MAKE_LIMIT:g} s."),
    ):
        return _vector(env, n, options)


def _vector(env: str, n: int, options: Mapping[str, Any]) -> VectorEnv:
    try:
        spec = registered(env)
        native = str(spec.vector_entry_point).rpartition(":")[2] if spec else ""
        if spec and native == "CartPoleVectorEnv" and n > FEW:
            return CartPole(n, **{"max_episode_steps": spec.max_episode_steps, **spec.kwargs, **options})
        if spec and native == "AtariVectorEnv":
            return Atari(n, **{**spec.kwargs, **options})
        make = maker(env, options)
        return combined(env, [make() for _ in range(n)])
    except TypeError as error:
        raise ValueError(f"The environment {env} does not take the options {dict(options)}: {error}.") from None
    except ImportError as error:
        raise ValueError(missing_package(env, env, error)) from None
    except (ValueError, EnvironmentFailed):
        raise
    except Exception as error:
        why = " ".join(str(error).split()).rstrip(".")
        raise EnvironmentFailed(f"The environment {env} could not be made: {type(error).__name__}: {why}.") from error


def combined(env: str, made: Sequence[Any]) -> VectorEnv:
    """Environments as one vector environment.

    Raises:
        ValueError: their kind is not supported.
    """
    if hasattr(made[0], "agent_iter"):
        raise ValueError(
            f"The agents of {env} take turns: give the function that makes PettingZoo's parallel environment."
        )
    if hasattr(made[0], "possible_agents"):
        return MultiAgent(made)
    if not hasattr(made[0], "observation_space"):
        kind = type(made[0]).__name__
        raise ValueError(
            f"'{env}' makes a {kind}: it must make a Gymnasium environment or a parallel one of PettingZoo."
        )
    return SequentialEnv(made)
