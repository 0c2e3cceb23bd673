"""Several copies of an environment stepped together, without steps that only reset.

Gymnasium's vector environments spend a step on each reset (NEXT_STEP), which must be neither trained on nor counted. Here
`step` returns the true next observations, and the caller restarts the rows that ended before it acts again.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv

from ray_jobs.envs.atari import Atari
from ray_jobs.envs.env_state import restored, saved
from ray_jobs.envs.failures import EnvironmentFailed, time_limit
from ray_jobs.envs.multi_agent import MultiAgent
from ray_jobs.envs.steps import StepResult, VectorEnv

MAKE_LIMIT = 60.0
"""Seconds that making environments may take; an alarm may come as late as twice that."""
FEW = 4
"""Most cart-poles that are faster stepped one after the other than as arrays."""
EXTRAS = {
    "ale_py": "atari",
    "gymnasium.envs.box2d": "box2d",
    "gymnasium.envs.mujoco": "mujoco",
    "mpe2": "mpe",
    "pettingzoo": "mpe",
}
"""The extra of ours that installs what environments need, by the package of their code."""


class SequentialEnv:
    """Single environments stepped one after the other; float64 observations become float32.

    Raises:
        ValueError: their observations are no Box and do not flatten to one.
    """

    def __init__(self, envs: Sequence[gym.Env]) -> None:
        self.envs = [flattened(env) for env in envs]
        space = self.envs[0].observation_space
        if not isinstance(space, gym.spaces.Box):
            raise ValueError(
                f"The observation space {space} is not supported: it must be Box, or something that flattens to one."
            )
        self.obs_space, self.action_space = as_float32(space), self.envs[0].action_space
        self.obs = np.zeros((len(self.envs), *space.shape), self.obs_space.dtype)

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
            obs, reward[i], terminated[i], truncated[i], _ = env.step(action[i])
            self._store(i, obs)
        return StepResult(self.obs.copy(), reward, terminated, truncated)

    def _store(self, row: int, obs: Any) -> None:
        """Store an observation; numpy alone would broadcast one that is too small over the whole row."""
        if np.shape(obs) != self.obs.shape[1:]:
            raise ValueError(f"an observation of shape {np.shape(obs)} in a space of shape {self.obs.shape[1:]}")
        self.obs[row] = obs

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


def flattened(env: gym.Env) -> gym.Env:
    """The environment with observations in a Box: Discrete ones become one-hot, tuples and dicts are concatenated."""
    space = env.observation_space
    return (
        env
        if isinstance(space, gym.spaces.Box) or not space.is_np_flattenable
        else gym.wrappers.FlattenObservation(env)
    )


def as_float32(space: gym.spaces.Box) -> gym.spaces.Box:
    """A float64 box as float32, others as they are: half the bytes to copy and to send, and the dtype of networks."""
    if space.dtype != np.float64:
        return space
    with np.errstate(over="ignore"):  # a bound beyond float32 becomes infinite
        return gym.spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)


def maker(env: str, options: Mapping[str, Any]) -> Callable[[], Any]:
    """A function that makes one environment, from a Gymnasium id or 'package.module:function'.

    Raises:
        ValueError: there is no such environment or function; the sentence says what to do.
    """
    if ":" in env and env not in gym.registry:
        module, _, name = env.partition(":")
        try:
            make = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            if isinstance(error, ImportError) and extra_of(module):
                raise ValueError(missing_package(env, module, error)) from None
            hint = "give a Gymnasium id or 'package.module:function'"
            raise ValueError(f"The environment '{env}' cannot be found ({error}): {hint}.") from None
        return lambda: make(**options)
    return lambda: _gym_make(env, options)


def _gym_make(env: str, options: Mapping[str, Any]) -> gym.Env:
    try:
        return gym.make(env, disable_env_checker=True, **options)
    except gym.error.DependencyNotInstalled as error:
        raise ValueError(missing_package(env, str(gym.spec(env).entry_point), error)) from None
    except gym.error.Error as error:
        near = difflib.get_close_matches(env, gym.registry, n=3, cutoff=0.3)
        hint = f"did you mean {' or '.join(near)}" if near else "gymnasium.pprint_registry() lists what there is"
        raise ValueError(f"There is no environment '{env}' ({str(error).split('.')[0]}): {hint}.") from None


def extra_of(code: str) -> str | None:
    """The extra that installs what the environments of a module need, or None."""
    return next((x for package, x in EXTRAS.items() if code == package or code.startswith(package + ".")), None)


def missing_package(env: str, code: str, error: Exception) -> str:
    """The sentence about an environment whose code needs a package that is not installed."""
    ours = extra_of(code.partition(":")[0])
    remedy = f"pip install 'reprise[{ours}]'" if ours else str(error).split("\n")[0].rstrip(".")
    return f"The environment {env} needs a package that is not installed: {remedy}."


def registered(env: str) -> gym.envs.registration.EnvSpec | None:
    """Gymnasium's entry of an id, or None; Atari games are registered first.

    Raises:
        ValueError: it is an Atari game, and ale-py is not installed.
    """
    if env.startswith("ALE/"):
        try:
            gym.register_envs(importlib.import_module("ale_py"))
        except ImportError as error:
            raise ValueError(missing_package(env, "ale_py", error)) from None
    return gym.registry.get(env)


def vector(env: str, n: int, options: Mapping[str, Any]) -> VectorEnv:
    """n copies of an environment, natively vectorised where that is faster and gives the same.

    `env` is a Gymnasium id, or 'package.module:function' that makes a Gymnasium environment or a parallel one of PettingZoo.

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
    spec = registered(env)
    native = str(spec.vector_entry_point).rpartition(":")[2] if spec else ""
    try:
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
