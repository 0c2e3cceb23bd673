"""Several copies of an environment stepped as one, without a step that only resets.

Gymnasium's vector environments spend a step on each reset (NEXT_STEP), which must be neither trained on nor counted. Here
`step` returns the true next observations, and the caller restarts the rows that ended before it acts again.
"""

from __future__ import annotations

import difflib
import importlib
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv


class Moved(NamedTuple):
    """What a step of B environments led to."""

    obs: np.ndarray
    """[B, *O], before any restart"""
    reward: np.ndarray
    """[B]"""
    terminated: np.ndarray
    """[B] bool"""
    truncated: np.ndarray
    """[B] bool"""


class Vector(Protocol):
    """B environments of one kind."""

    obs_space: gym.spaces.Box
    action_space: gym.Space

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """Seed and restart all; observations [B, *O]."""
        ...

    def step(self, action: np.ndarray) -> Moved: ...

    def restart(self, rows: np.ndarray) -> np.ndarray:
        """Restart the rows [B] bool; observations [B, *O], the other rows' unchanged."""
        ...

    def state(self) -> bytes | None:
        """All there is to go on from, or None where the environments cannot be pickled."""
        ...

    def load(self, state: bytes) -> None: ...
    def close(self) -> None: ...


class Rows:
    """Single environments stepped one after the other."""

    def __init__(self, make: Callable[[], gym.Env], n: int) -> None:
        self.envs = [flat(make()) for _ in range(n)]
        space = self.envs[0].observation_space
        if not isinstance(space, gym.spaces.Box):
            raise ValueError(
                f"The observation space {space} is not supported: it must be Box, or something that flattens to one."
            )
        self.obs_space, self.action_space = space, self.envs[0].action_space
        self.obs = np.zeros((n, *space.shape), space.dtype)

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        for i, (env, seed) in enumerate(zip(self.envs, seeds, strict=True)):
            self.obs[i] = env.reset(seed=seed)[0]
            env.action_space.seed(seed)
        return self.obs.copy()

    def step(self, action: np.ndarray) -> Moved:
        reward, terminated, truncated = np.empty(len(self.envs)), *np.zeros((2, len(self.envs)), bool)
        for i, env in enumerate(self.envs):
            self.obs[i], reward[i], terminated[i], truncated[i], _ = env.step(action[i])
        return Moved(self.obs.copy(), reward, terminated, truncated)

    def restart(self, rows: np.ndarray) -> np.ndarray:
        for i in np.flatnonzero(rows):
            self.obs[i] = self.envs[i].reset()[0]
        return self.obs.copy()

    def state(self) -> bytes | None:
        try:
            return pickle.dumps((self.envs, self.obs))
        except Exception:  # each library refuses in a way of its own: TypeError, PicklingError, AttributeError ...
            return None

    def load(self, state: bytes) -> None:
        self.close()
        self.envs, self.obs = pickle.loads(state)

    def close(self) -> None:
        for env in self.envs:
            env.close()


class CartPole:
    """Gymnasium's numpy-vectorised cart-pole, restarted where and when it is told to: same physics, same limits."""

    def __init__(self, n: int, **options: Any) -> None:
        self.env = CartPoleVectorEnv(n, **options)
        self.obs_space, self.action_space = self.env.single_observation_space, self.env.single_action_space

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """All rows draw from one generator, seeded by the first."""
        return self.env.reset(seed=int(seeds[0]))[0]

    def step(self, action: np.ndarray) -> Moved:
        obs, reward, terminated, truncated, _ = self.env.step(action)
        self.env.prev_done[:] = False  # else the next step would spend itself on resetting these rows
        return Moved(obs, reward, terminated, truncated & ~terminated)

    def restart(self, rows: np.ndarray) -> np.ndarray:
        env = self.env
        env.state[:, rows] = env.np_random.uniform(env.low, env.high, (4, int(rows.sum())))
        env.steps[rows] = 0
        return env.state.T.astype(np.float32)

    def state(self) -> bytes:
        return pickle.dumps(self.env)

    def load(self, state: bytes) -> None:
        self.env = pickle.loads(state)

    def close(self) -> None:
        self.env.close()


def flat(env: gym.Env) -> gym.Env:
    """The environment with observations in a Box: Discrete ones become one-hot, tuples and dicts are strung together."""
    space = env.observation_space
    return (
        env
        if isinstance(space, gym.spaces.Box) or not space.is_np_flattenable
        else gym.wrappers.FlattenObservation(env)
    )


def maker(env: str, options: Mapping[str, Any]) -> Callable[[], gym.Env]:
    """What makes one environment of a Gymnasium id, or of 'package.module:function'.

    Raises:
        ValueError: there is no such environment or function; the sentence says what to do.
    """
    if ":" in env and env not in gym.registry:
        module, _, name = env.partition(":")
        try:
            make = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            hint = "give a Gymnasium id or 'package.module:function'"
            raise ValueError(f"The environment '{env}' cannot be found ({error}): {hint}.") from None
        return lambda: make(**options)
    return lambda: _gym_make(env, options)


def _gym_make(env: str, options: Mapping[str, Any]) -> gym.Env:
    try:
        return gym.make(env, disable_env_checker=True, **options)
    except gym.error.DependencyNotInstalled as error:
        raise ValueError(
            f"The environment {env} needs a package that is not installed: {_remedy(env, error)}."
        ) from None
    except gym.error.Error as error:
        near = difflib.get_close_matches(env, gym.registry, n=3, cutoff=0.3)
        hint = f"did you mean {' or '.join(near)}" if near else "gymnasium.pprint_registry() lists what there is"
        raise ValueError(f"There is no environment '{env}' ({str(error).split('.')[0]}): {hint}.") from None


def _remedy(env: str, error: Exception) -> str:
    box2d = env.split("-")[0] in {
        "LunarLander",
        "LunarLanderContinuous",
        "BipedalWalker",
        "BipedalWalkerHardcore",
        "CarRacing",
    }
    return "pip install 'reprise[box2d]'" if box2d else str(error).split("\n")[0].rstrip(".")


def vector(env: str, n: int, options: Mapping[str, Any]) -> Vector:
    """n copies of an environment, natively vectorised where that is faster and does the same.

    Raises:
        ValueError: there is no such environment, a package is missing, or an option or space does not fit.
    """
    spec = gym.registry.get(env)
    try:
        if spec is not None and str(spec.vector_entry_point).endswith(":CartPoleVectorEnv"):
            return CartPole(n, **{"max_episode_steps": spec.max_episode_steps, **spec.kwargs, **options})
        return Rows(maker(env, options), n)
    except TypeError as error:
        raise ValueError(f"The environment {env} does not take the options {dict(options)}: {error}.") from None
