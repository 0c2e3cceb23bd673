"""A recipe's settings: what there are, of which type, and whether what was given is one of them.

The settings are the keyword arguments of `recipe`, and after them the options that every recipe of its kind has: the fields of
`Fit` or `Play` that carry a default. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray_jobs.errors import UsageError, unknown
from ray_jobs.recipe.loading import kind, module
from ray_jobs.recipe.plan import Fit, Matmul, Play, Precision
from ray_jobs.recipe.spec import Where

SCALARS = {
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "float | None": float | None,
    "str | None": str | None,
    "Precision": Precision,
    "Matmul": Matmul,
}


@dataclass(frozen=True)
class Setting:
    """One setting; `default` is None for an option whose value the recipe chooses."""

    name: str
    type: Any
    default: Any
    help: str
    shared: bool = False
    """Whether every recipe of this kind has it."""

    @property
    def typename(self) -> str:
        """The type as a user would write it."""
        choices = typing.get_args(self.type) if typing.get_origin(self.type) is typing.Literal else ()
        if choices:
            return " | ".join(map(str, choices))
        if self.type == tuple[str, ...]:
            return "str ..."
        return self.type.__name__ if isinstance(self.type, type) else str(self.type)


def documented(thing: Any) -> dict[str, str]:
    """What the docstring of a function or dataclass says of each argument or field."""
    from docstring_parser import parse_from_object

    return {p.arg_name: " ".join((p.description or "").split()) for p in parse_from_object(thing).params}


def fields(cls: type, *, defaults: bool = False) -> list[Setting]:
    """The scalar fields with a default of a dataclass; `defaults` tells their values, else they are left to the recipe."""
    told = documented(cls)
    found = [f for f in dataclasses.fields(cls) if f.type in SCALARS and f.default is not dataclasses.MISSING]
    return [
        Setting(f.name, SCALARS[str(f.type)], f.default if defaults else None, told.get(f.name, ""), shared=True)
        for f in found
    ]


def known(name: str) -> dict[str, Setting]:
    """Every setting of a recipe, its own first.

    Raises:
        UsageError: there is no such recipe.
    """
    make = module(name).recipe
    told, types = documented(make), typing.get_type_hints(make)
    own = [
        Setting(p.name, types[p.name], p.default, told.get(p.name, ""))
        for p in inspect.signature(make).parameters.values()
    ]
    names = {s.name for s in own}
    return {s.name: s for s in [*own, *(s for s in fields(kind(name)) if s.name not in names)]}


def _parser(settings: Mapping[str, Setting]) -> Any:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    for s in settings.values():
        if s.type is int:
            parser.add_argument(f"--{s.name}", type=int, default=s.default)
        else:
            parser.add_argument(
                f"--{s.name}", type=s.type if s.default is not None else s.type | None, default=s.default
            )
    return parser


def typed(what: str, settings: Mapping[str, Setting], given: Mapping[str, Any]) -> dict[str, Any]:
    """`given`, each value turned into its setting's type.

    Raises:
        UsageError: an unknown name or a value of another type; `what` says whose settings they are.
    """
    from jsonargparse import ArgumentError

    given = {k.replace("-", "_"): v for k, v in given.items()}
    for name in given:
        if name not in settings:
            raise UsageError(unknown("setting", name, list(settings), of=what))
    parsed = {}
    for name, value in given.items():
        try:
            parsed[name] = _parser({name: settings[name]}).parse_object({name: value})[name]
        except ArgumentError:
            raise UsageError(f"--{name} of {what} takes {settings[name].typename}, not {value!r}.") from None
    return parsed


def check(name: str, given: Mapping[str, Any], where: Where | None = None) -> dict[str, Any]:
    """The given settings, typed, after all that can be known to be wrong before anything starts has been looked for.

    Raises:
        UsageError: an unknown recipe or setting, a wrong type, or a combination that cannot be.
    """
    settings = known(name)
    values = typed(name, settings, given)
    full = {k: s.default for k, s in settings.items()} | values
    for key in ("steps", "batch", "envs", "accumulate", "save_every", "log_every"):
        if isinstance(full.get(key), int) and full[key] < 1:
            raise UsageError(f"--{key} of {name} must be at least 1, not {full[key]}.")
    if isinstance(full.get("ema"), float) and not 0 <= full["ema"] < 1:
        raise UsageError(f"--ema of {name} must be at least 0 and below 1, not {full['ema']}.")
    _check_where(name, full, where or Where())
    return values


def _check_where(name: str, full: Mapping[str, Any], where: Where) -> None:
    if where.accelerator not in ("auto", "cpu", "gpu"):
        raise UsageError(unknown("accelerator", where.accelerator, ["auto", "cpu", "gpu"]))
    lowest = {"workers": 1, "runners": 0, "learners": 1, "threads": 1, "max_failures": 0, "min_workers": 0}
    for key, least in lowest.items():
        if getattr(where, key) < least:
            raise UsageError(f"--{key} must be at least {least}, not {getattr(where, key)}.")
    if kind(name) is Fit:
        if where.runners or where.learners > 1:
            raise UsageError(
                f"{name} trains a generative model: --runners and --learners are for agents, use --workers."
            )
        if where.min_workers > where.workers:
            raise UsageError(
                f"--min_workers {where.min_workers} are more than --workers {where.workers}: it is the fewest to begin with."
            )
        parts = where.workers * (full["accumulate"] or 1)
        if isinstance(full.get("batch"), int) and full["batch"] % parts:
            raise UsageError(
                f"--batch {full['batch']} of {name} is the global batch and does not divide into --workers x --accumulate = {parts} parts."
            )
        if full["precision"] == "16-mixed" and where.accelerator == "cpu":
            raise UsageError("--precision 16-mixed needs a GPU: on a CPU take bf16-mixed.")
    else:
        if where.workers > 1 or where.min_workers:
            raise UsageError(
                f"{name} trains an agent: --workers and --min_workers are for generative models, use --runners and --learners."
            )
        if where.runners % where.learners:
            raise UsageError(
                f"--runners {where.runners} cannot be shared by --learners {where.learners}: take a multiple of {where.learners}, or 0."
            )
        shares = max(where.runners, where.learners)
        if isinstance(full.get("envs"), int) and full["envs"] % shares:
            raise UsageError(
                f"--envs {full['envs']} of {name} do not divide over {shares} runners: take a multiple of {shares}."
            )


def build(name: str, settings: Mapping[str, Any]) -> Fit | Play:
    """The recipe with these settings, ready to train: the models are made here, so seed torch first."""
    make = module(name).recipe
    own = inspect.signature(make).parameters
    made = make(**{k: v for k, v in settings.items() if k in own})
    return dataclasses.replace(made, **{k: v for k, v in settings.items() if k not in own and v is not None})


def from_file(path: str) -> dict[str, Any]:
    """Settings from a YAML file: a mapping from names to values, such as `reprise tune` writes.

    Raises:
        UsageError: it cannot be read or is no mapping.
    """
    import yaml

    try:
        with open(path) as f:
            found = yaml.safe_load(f) or {}
    except OSError as error:
        raise UsageError(f"The settings file {path} cannot be read: {error.strerror}.") from None
    except yaml.YAMLError as error:
        raise UsageError(f"The settings file {path} is not YAML: {re.sub(chr(10) + ' *', ' ', str(error))}.") from None
    if not isinstance(found, dict):
        raise UsageError(f"The settings file {path} must hold 'name: value' lines, not a {type(found).__name__}.")
    return found
