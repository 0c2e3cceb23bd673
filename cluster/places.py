"""The places that a job can be sent to, by name, each imported only when it is used.

What belongs to a place is a field of its launcher; `options` finds the fields, so a new place is one row here.
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
"""What a field must be to be an option."""


@dataclass(frozen=True)
class Place:
    """Where a launcher is found, and what it does about files."""

    launcher: str
    """'module:Class'."""
    copies: bool = False
    """Whether the job sees a copy of the working directory, or none, in place of the folder itself."""
    elsewhere: bool = True
    """Whether the job runs on other machines than this one."""
    pooled: bool = False
    """Whether the tasks that a job starts take from the same pool of cores as the job itself."""


PLACES: dict[str, Place] = {
    "local": Place("cluster.local:Local", elsewhere=False),
    "ray": Place("cluster.ray_clusters.jobs_api:Ray", copies=True, pooled=True),
    "slurm": Place("cluster.slurm.launcher:Slurm"),
    "kubernetes": Place("cluster.kubernetes.launcher:Kubernetes", copies=True),
}


@dataclass(frozen=True)
class Option:
    """One field of a place's launcher."""

    name: str
    type: Any
    default: Any


def place(name: str, profiles: Iterable[str] = ()) -> Place:
    """The place of this name; `profiles` are names that are allowed beside it, for the sentence.

    Raises:
        LauncherError: there is none; the nearest is named.
    """
    if name in PLACES:
        return PLACES[name]
    allowed = [*PLACES, *profiles]
    raise LauncherError(f"There is no place '{name}' to run jobs.{near(name, allowed)} Allowed: {', '.join(allowed)}.")


def launcher_class(name: str) -> type:
    """The class behind a place.

    Raises:
        LauncherError: there is no such place, or what it needs is not installed here.
    """
    module, _, attribute = place(name).launcher.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        missing = error.name if isinstance(error, ImportError) else attribute
        raise LauncherError(
            f"Jobs cannot be sent to {name} from here: {missing} is not installed; "
            f"install what it needs, or choose another place ({', '.join(p for p in PLACES if p != name)})."
        ) from None


def options(name: str) -> dict[str, Option]:
    """The fields of a place's launcher that a user may set, by name.

    Raises:
        LauncherError: as `launcher_class`.
    """
    cls = launcher_class(name)
    types = typing.get_type_hints(cls)
    found = [f for f in dataclasses.fields(cls) if f.init and types[f.name] in TYPES]
    return {f.name: Option(f.name, types[f.name], _default(f)) for f in found}


def make(name: str, given: Mapping[str, Any]) -> Launcher:
    """The launcher of a place with these options, each of its field's type; lists, as JSON keeps them, become tuples.

    Raises:
        LauncherError: there is no such place or option, or the launcher refuses a value.
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
    """' Did you mean ...?' where one of those allowed is close, else nothing."""
    found = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean '{found[0]}'?" if found else ""


def _default(field: dataclasses.Field) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else None
