"""The kinds of cluster that a job can be sent to, by name; each launcher is imported only when it is used.

What belongs to one backend and not to all is a field of its launcher. `options` finds the fields, so a new backend is one
row in `BACKENDS`.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.job import Launcher, LauncherError

TYPES: tuple[Any, ...] = (str, int, float, bool, tuple[str, ...])
"""Types of a launcher's fields that are options of the command line."""


@dataclass(frozen=True)
class Backend:
    """Where a launcher is found, and how its jobs see files and cores."""

    launcher: str
    """'module:Class'."""
    copies: bool = False
    """Whether the job sees a copy of the working directory, or none, instead of the folder itself."""
    elsewhere: bool = True
    """Whether the job runs on other machines than this one."""
    pooled: bool = False
    """Whether the tasks that a job starts take from the same pool of cores as the job itself."""


BACKENDS: dict[str, Backend] = {
    "local": Backend("cluster.local:Local", elsewhere=False),
    "ray": Backend("cluster.ray_clusters.jobs_api:Ray", copies=True, pooled=True),
    "slurm": Backend("cluster.slurm.launcher:Slurm"),
    "kubernetes": Backend("cluster.kubernetes.launcher:Kubernetes", copies=True),
}


@dataclass(frozen=True)
class Option:
    """One field of a launcher that a user may set."""

    name: str
    type: Any
    default: Any


def backend(name: str, profiles: Iterable[str] = ()) -> Backend:
    """The backend of this name.

    Args:
        name: a key of `BACKENDS`.
        profiles: names that are allowed too; the error lists them.

    Raises:
        LauncherError: there is none; the error suggests the nearest name.
    """
    if name in BACKENDS:
        return BACKENDS[name]
    allowed = [*BACKENDS, *profiles]
    raise LauncherError(
        f"There is no backend '{name}' to run jobs.{near(name, allowed)} Allowed: {', '.join(allowed)}."
    )


def launcher_class(name: str) -> type:
    """The launcher class of a backend.

    Raises:
        LauncherError: there is no such backend, or a package that it needs is not installed here.
    """
    module, _, attribute = backend(name).launcher.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        missing = error.name if isinstance(error, ImportError) else attribute
        raise LauncherError(
            f"Jobs cannot be sent to {name} from here: {missing} is not installed; "
            f"install what it needs, or choose another backend ({', '.join(b for b in BACKENDS if b != name)})."
        ) from None


def options(name: str) -> dict[str, Option]:
    """The fields of a backend's launcher that a user may set, by name.

    Raises:
        LauncherError: as `launcher_class`.
    """
    cls = launcher_class(name)
    types = typing.get_type_hints(cls)
    found = [f for f in dataclasses.fields(cls) if f.init and types[f.name] in TYPES]
    return {f.name: Option(f.name, types[f.name], _default(f)) for f in found}


def make(name: str, given: Mapping[str, Any]) -> Launcher:
    """The launcher of a backend with these options, each of its field's type; lists, as JSON keeps them, become tuples.

    Raises:
        LauncherError: there is no such backend or option, or the launcher refuses a value.
    """
    known, cls = options(name), launcher_class(name)
    for key in given:
        if key not in known:
            raise LauncherError(f"{name} has no option '{key}'.{near(key, known)} Allowed: {', '.join(known)}.")
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    try:
        return cls(**values)
    except LauncherError:
        raise
    except ValueError as error:
        raise LauncherError(str(error)) from None


def near(given: str, allowed: Iterable[str]) -> str:
    """' Did you mean ...?' where an allowed name is close, else ''."""
    found = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean '{found[0]}'?" if found else ""


def _default(field: dataclasses.Field) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else None
