"""Problems of dynamic programming: an MDP, the environment's time limit, and its map where the states are cells of a grid."""

from __future__ import annotations

import functools
import importlib
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ray_jobs.tabular.arrays import checked, read
from ray_jobs.tabular.dynamic_programming import policy_iteration
from ray_jobs.tabular.environments import of_table, with_table
from ray_jobs.tabular.mdp import (
    CERTAIN,
    MDP,
    Array,
    ends_for_sure,
    performance,
    state_rewards,
    state_transitions,
    uniform_policy,
)

Letters = NDArray[np.str_]
"""Map [rows, columns] of one letter for each state: S start, G goal, H hole, C cliff, F anything else."""


Picture = Callable[[Array, Array, str, Path], Path]
LONG = 1_000
"""Steps within which a policy is measured where the environment has no time limit."""
IDS = re.compile(r"-v\d+$")
"""The end of a Gymnasium id; 'package.module:Name-v0' imports the module, which registers the environment."""


class Problem(NamedTuple):
    """What is to be solved."""

    mdp: MDP
    limit: int | None
    """Steps after which the environment cuts an episode; None where it never does."""
    letters: Letters | None
    """The map, where the states are the cells of a grid."""
    picture: Picture | None = None
    """Draws values [S] and a policy [S, A], with a title, as a PNG file: `picture` of the module of 'package.module:function'."""


def problem(env: str, gamma: float, options: Mapping[str, Any] | None, seed: int) -> Problem:
    """The problem of a Gymnasium environment with a table, of a file of arrays, or of 'package.module:function' that returns an `MDP`.

    Args:
        env: the id; the file, see `read`; or the function, which is called with the options, gamma and seed.
        gamma: discount per step.
        options: keyword arguments of the environment or function.
        seed: of a random MDP; environments do not depend on it.

    Raises:
        ValueError: there is no such environment, it has no table, or does not take the options; or it is no MDP.
    """
    return _cached(env, gamma, json.dumps(dict(options or {}), sort_keys=True), seed if ":" in env else changed(env))


def changed(path: str) -> int:
    """When a file was last written, in nanoseconds; 0 where there is none. A file that is written again is read again."""
    file = Path(path).expanduser()
    return file.stat().st_mtime_ns if path.endswith(".npz") and file.exists() else 0


@functools.lru_cache(maxsize=8)
def _cached(env: str, gamma: float, options: str, seed: int) -> Problem:
    given = json.loads(options)
    try:
        if env.endswith(".npz"):
            return Problem(read(env, gamma, **given), None, None)
        if ":" in env and not IDS.search(env):
            found = checked(_named(env)(**given, gamma=gamma, seed=seed), env)
            return Problem(found, None, None, getattr(sys.modules[env.partition(":")[0]], "picture", None))
        return _of_gymnasium(env, gamma, given)
    except (gym.error.Error, ImportError, AttributeError) as error:
        why = " ".join(str(error).split()).rstrip(".")
        raise ValueError(f"There is no environment {env} to solve: {why}.") from None
    except TypeError as error:
        raise ValueError(f"The environment {env} does not take the options {given}: {error}.") from None


def _of_gymnasium(env: str, gamma: float, options: Mapping[str, Any]) -> Problem:
    made = with_table(env, **options)
    limit = gym.spec(env.rpartition(":")[2]).max_episode_steps
    return Problem(of_table(made.P, made.initial_state_distrib, gamma), limit, _letters(made))


def _named(path: str) -> Any:
    """What 'package.module:name' names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def policy_of(name: str, mdp: MDP) -> Array:
    """The policy [S, A] of an MDP that a setting names: uniform, best, or 'package.module:function' that takes the MDP.

    Raises:
        ValueError: there is no such function, or it returns no policy.
    """
    if name in ("uniform", "best"):
        return uniform_policy(mdp) if name == "uniform" else policy_iteration(mdp).policy
    try:
        found = np.asarray(_named(name)(mdp), np.float64)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"There is no policy {name} ({error}): take uniform, best, or 'package.module:function'."
        ) from None
    if found.shape != mdp.reward.shape or (found < 0).any() or np.abs(found.sum(-1) - 1).max() > CERTAIN:
        raise ValueError(
            f"{name} must return the probabilities of {mdp.reward.shape[1]} actions in each of {mdp.reward.shape[0]} states."
        )
    return found


def value_of(mdp: MDP, policy: Array) -> float:
    """The value of the start under a policy [S, A]: exact, or within `LONG` steps where it need not end and there is no discount."""
    if mdp.gamma < 1 or ends_for_sure(mdp, policy):
        return performance(mdp, policy)
    return limited_return(mdp, policy, LONG)


def _letters(env: Any) -> Letters | None:
    """The map of FrozenLake or CliffWalking; None where the states are no cells."""
    states = len(env.P)
    if getattr(env, "desc", np.empty(0)).size == states:
        return env.desc.astype(str)
    if not hasattr(env, "_cliff") or env._cliff.size != states:
        return None
    letters = np.where(env._cliff, "C", "F")
    letters.flat[env.start_state_index], letters.flat[-1] = "S", "G"
    return letters


def limited_return(mdp: MDP, policy: Array, steps: int) -> float:
    """Expected undiscounted return from the start of a policy [S, A] in at most `steps` steps; FrozenLake's chance of success."""
    step, reward = state_transitions(mdp, policy), state_rewards(mdp, policy)
    v = np.zeros(len(mdp.start))
    for _ in range(steps):
        v = reward + step @ v
    return float(mdp.start @ v)


def best_limited_return(mdp: MDP, steps: int) -> float:
    """The same of the best policy that knows how many steps are left: backward induction (Puterman 1994, section 4.5)."""
    v = np.zeros(len(mdp.start))
    for _ in range(steps):
        v = (mdp.reward + mdp.transition @ v).max(-1)
    return float(mdp.start @ v)
