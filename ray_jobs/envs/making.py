"""Environments by their names: Gymnasium's ids, and functions and classes of modules."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from ray_jobs.envs.entry_points import makes_environments

EXTRAS = {
    "ale_py": "atari",
    "gymnasium.envs.box2d": "box2d",
    "gymnasium.envs.mujoco": "mujoco",
    "minatar": "minatar",
    "mpe2": "mpe",
    "pettingzoo": "mpe",
}
"""The extra of ours that installs what environments need, by the package of their code."""

NAMESPACES = {"ALE/": "ale_py", "MinAtar/": "minatar.gym"}
"""Which module registers the ids of a namespace: by its import, or by its `register_envs`."""


def registered(env: str) -> EnvSpec | None:
    """Gymnasium's entry of an id or of 'package.module:id', or None; those of `NAMESPACES`, and those of the module, are registered first.

    Raises:
        ValueError: the package of the namespace is not installed; or there is no such module.
    """
    package = next((module for start, module in NAMESPACES.items() if env.startswith(start)), None)
    if package:
        try:
            of = importlib.import_module(package)
        except ImportError as error:
            raise ValueError(missing_package(env, package, error)) from None
        if env not in gym.registry and hasattr(of, "register_envs"):
            of.register_envs()
    if ":" in env and env not in gym.registry:
        module, _, name = env.partition(":")
        return None if hasattr(imported(env, module), name) else gym.registry.get(newest(name))
    return gym.registry.get(env)


def newest(name: str) -> str:
    """An id with its version: the newest where the name has none."""
    versions = [v for v in (id_.removeprefix(f"{name}-v") for id_ in gym.registry if id_ != name) if v.isdecimal()]
    return f"{name}-v{max(map(int, versions))}" if versions and name not in gym.registry else name


def learn_of(spec: EnvSpec | None) -> None:
    """Register an environment that another process knows; one that is known here stays as it is."""
    if spec is not None:
        gym.registry.setdefault(spec.id, spec)


def imported(env: str, module: str) -> ModuleType:
    """The module that an environment's name begins with.

    Raises:
        ValueError: it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if extra_of(module):
            raise ValueError(missing_package(env, module, error)) from None
        raise ValueError(not_found(env, str(error))) from None


def maker(env: str, options: Mapping[str, Any]) -> Callable[[], Any]:
    """A function that makes one environment, from Gymnasium's id, 'package.module:id', or 'package.module:function'.

    In place of a function it may be the class of an environment. Where the class is registered, it has the registered time limit.

    Raises:
        ValueError: there is no such environment or function; the sentence says what to do.
    """
    spec = registered(env)
    if spec or ":" not in env:
        return lambda: _gym_make(spec.id if spec else env, options)
    module, _, name = env.partition(":")
    make = getattr(imported(env, module), name, None)
    if make is None:
        raise ValueError(not_found(env, f"the module {module} has no '{name}' and registers no such id"))
    if not makes_environments(make):
        kinds = "it must make a Gymnasium environment or a parallel one of PettingZoo"
        raise ValueError(
            f"'{env}' makes no environments: {kinds}, as a class or as a function of a module that imports gymnasium or pettingzoo."
        )
    limit = time_limit_of(env, make)
    return lambda: gym.wrappers.TimeLimit(make(**options), limit) if limit else make(**options)


def not_found(env: str, why: str) -> str:
    """The sentence about a name that leads to no environment."""
    hint = "give a Gymnasium id, 'package.module:id' or 'package.module:function'"
    return f"The environment '{env}' cannot be found ({why}): {hint}."


def time_limit_of(env: str, make: Any) -> int | None:
    """Steps after which episodes of a class are cut, as Gymnasium's registry says; None without an entry or a limit.

    Raises:
        ValueError: its entries have several limits.
    """
    limits = {s.id: s.max_episode_steps for s in gym.registry.values() if is_entry(s, make)}
    if len(set(limits.values())) > 1:
        each = ", ".join(f"{name} ({'no limit' if n is None else f'{n} steps'})" for name, n in limits.items())
        raise ValueError(f"'{env}' is registered with several time limits: give one of the ids {each}.")
    return next(iter(limits.values()), None)


def is_entry(spec: EnvSpec, make: Any) -> bool:
    """Whether an entry of the registry makes its environments by `make`; modules that are not imported yet are left so."""
    if not isinstance(spec.entry_point, str):
        return spec.entry_point is make
    module, _, name = spec.entry_point.partition(":")
    return module in sys.modules and getattr(sys.modules[module], name, None) is make


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
