"""A recipe's settings: their names, types and defaults, and checks of given values.

A setting is declared once: as a keyword argument of the function that builds a model, as a field of an algorithm's dataclass, or
as an option of the plan's kind (`Fit`, `Play`, `Study`). An algorithm's fields are read from its source, so nothing here
imports torch.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray_jobs.errors import LONG, UsageError, unknown
from ray_jobs.recipe import values
from ray_jobs.recipe.declare import Recipe
from ray_jobs.recipe.loading import family_source, kind, recipe
from ray_jobs.recipe.plan import Fit, Matmul, Play, Precision, Study, target
from ray_jobs.recipe.ranges import RANGED, Range, bare, check_fields
from ray_jobs.recipe.spec import Where

Location = typing.Annotated[str, "file or folder"]
"""The type of a setting that is a file or folder; jobs on other machines warn where it is not there."""
RequiredLocation = typing.Annotated[str, "file or folder", "required"]
"""The type of a file or folder without a usable default: data that its owner must fetch first."""
RecipeName = typing.Annotated[str, "recipe"]
"""The type of a verb's word that names a recipe."""
FamilyName = typing.Annotated[str, "family"]
"""The type of a verb's word that names a family of recipes."""

SCALARS: dict[str, Any] = {
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "int | None": int | None,
    "float | None": float | None,
    "str | None": str | None,
    "tuple[int, ...]": tuple[int, ...],
    "Mapping[str, Any]": dict[str, Any],
    "Mapping[str, Any] | None": dict[str, Any] | None,
    "Precision": Precision,
    "Matmul": Matmul,
    **RANGED,
}
"""Types of settings by their annotations."""


@dataclass(frozen=True)
class Setting:
    """One setting: its name, type, default and meaning."""

    name: str
    type: Any
    default: Any
    help: str
    shared: bool = False
    """Whether every recipe of this kind has it."""
    path: bool = False
    """Whether it is a file or folder."""
    required: bool = False
    """Whether it must be given, though '' is its default."""
    range: Range | None = None
    """The numbers that it may be."""

    @property
    def several(self) -> bool:
        """Whether it holds several texts, each given by an option of its own."""
        return bool(self.type == tuple[str, ...])

    @property
    def typename(self) -> str:
        """The type as a user would write it."""
        choices = typing.get_args(self.type) if typing.get_origin(self.type) is typing.Literal else ()
        if choices:
            return " | ".join(map(str, choices))
        if self.several:
            return "str ..."
        return self.type.__name__ if isinstance(self.type, type) else str(self.type).removesuffix(" | None")


def documented(thing: Any) -> dict[str, str]:
    """The docstring's text on each argument of a function or each field of a dataclass."""
    from docstring_parser import parse_from_object

    return {p.arg_name: " ".join((p.description or "").split()) for p in parse_from_object(thing).params}


def fields(cls: type) -> list[Setting]:
    """The scalar fields of a dataclass that have a default, or are the number of steps."""
    text = documented(cls)
    found = [(f, *bare(SCALARS[str(f.type)])) for f in dataclasses.fields(cls) if f.type in SCALARS]
    return [
        Setting(f.name, type_, None if f.default is dataclasses.MISSING else f.default, text.get(f.name, ""), True, range=range_)
        for f, type_, range_ in found
    ]  # fmt: skip


def known(name: str) -> dict[str, Setting]:
    """Every setting of a recipe with its default, the recipe's own first.

    Raises:
        UsageError: there is no such recipe.
    """
    found = recipe(name)
    return dict(_known(found) if callable(found.plan) else _known_of_data(found))


def _known(found: Recipe) -> dict[str, Setting]:
    """The settings of a recipe that is a function: its keyword arguments, then the options of its kind.

    An option that is also a keyword argument has that one's type, range, help and default; `fit`'s own defaults replace this one.
    """
    own, shared = _arguments(found.plan), {s.name: s for s in fields(kind(found))}
    mine = {n: s for n, s in own.items() if n not in shared}
    both = {n: _both(s, own[n]) for n, s in shared.items() if n in own}
    return {n: _with_default(s, found.defaults) for n, s in (mine | shared | both).items()}


def _both(shared: Setting, own: Setting) -> Setting:
    """An option of the kind that the function takes as well."""
    return dataclasses.replace(
        shared, type=own.type, default=own.default, help=own.help or shared.help, range=own.range or shared.range
    )


def _known_of_data(found: Recipe) -> dict[str, Setting]:
    """The settings of a recipe that is data: the fields of its algorithm or process, then the options of its kind."""
    plan = found.plan
    _, file, name = family_source(plan, target(plan))
    shared = {s.name: s for s in fields(type(plan))}
    given = {n: getattr(plan, n) for n in shared} | dict(plan.settings) | dict(found.defaults)
    return {n: _with_default(s, given) for n, s in ({s.name: s for s in declared_fields(file, name)} | shared).items()}


def _with_default(setting: Setting, defaults: Mapping[str, Any]) -> Setting:
    if setting.name not in defaults:
        return setting
    return dataclasses.replace(setting, default=defaults[setting.name])


def _arguments(function: Any) -> dict[str, Setting]:
    """The keyword arguments of a function that have a default."""
    text, types = documented(function), typing.get_type_hints(function, include_extras=True)
    return {
        p.name: _argument(p.name, types[p.name], p.default, text.get(p.name, ""))
        for p in inspect.signature(function).parameters.values()
        if p.default is not p.empty
    }


def _argument(name: str, type_: Any, default: Any, help_: str) -> Setting:
    path, required = type_ in (Location, RequiredLocation), type_ == RequiredLocation
    plain, range_ = bare(type_)
    return Setting(name, str if path else plain, default, help_, path=path, required=required, range=range_)


@functools.cache
def declared_fields(file: Path, name: str) -> tuple[Setting, ...]:
    """The fields of a dataclass, each with the docstring below it, read from its source; those of base classes in the same file first.

    Raises:
        UsageError: the file has no such class.
        ValueError: a field has no docstring, or a type that no setting has.
    """
    classes = [n for n in ast.parse(file.read_text()).body if isinstance(n, ast.ClassDef)]
    found = next((c for c in classes if c.name == name), None)
    if found is None:
        raise UsageError(unknown("class", name, [c.name for c in classes], of=file.name))
    bases = {ast.unparse(base) for base in found.bases}
    settings = [field for c in classes if c.name in bases for field in declared_fields(file, c.name)]
    for line, below in zip(found.body, [*found.body[1:], None], strict=True):
        if isinstance(line, ast.AnnAssign) and not ast.unparse(line.annotation).startswith("ClassVar"):
            settings.append(_of_field(file, line, below))
    return tuple(settings)


def _of_field(file: Path, line: ast.AnnAssign, below: ast.stmt | None) -> Setting:
    annotation, name = ast.unparse(line.annotation), typing.cast(ast.Name, line.target).id
    documented = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
    if not documented or (annotation not in SCALARS and not annotation.startswith("Literal[")):
        raise ValueError(f"{file.name}: the field {name}: {annotation} needs a scalar type and a docstring below it")
    literal = typing.Literal[ast.literal_eval(f"({annotation[8:-1]},)")] if annotation not in SCALARS else None
    default = ast.literal_eval(line.value) if line.value else None
    text = " ".join(str(below.value.value).split())  # type: ignore[union-attr]
    type_, range_ = bare(SCALARS.get(annotation, literal))
    return Setting(name, type_, default, text, range=range_)


def parser(settings: Iterable[Setting], *, command_line: bool = False) -> Any:
    """One jsonargparse parser for these settings; it raises `jsonargparse.ArgumentError` where a value has another type.

    Args:
        settings: what it takes.
        command_line: an option of several values is given once for each of them, not as a list.
    """
    from jsonargparse import ArgumentParser

    made = ArgumentParser(exit_on_error=False, add_help=False, allow_abbrev=False)
    for s in settings:
        if command_line and s.several:
            made.add_argument(f"--{s.name}", type=str, action="append")
        else:
            made.add_argument(f"--{s.name}", type=s.type | None if values.takes_none(s.type, s.default) else s.type)
    return made


def typed(what: str, settings: Mapping[str, Setting], given: Mapping[str, Any]) -> dict[str, Any]:
    """`given`, each value converted to its setting's type.

    Args:
        what: the recipe or verb, for the sentence about a wrong value.
        settings: those that there are, by name.
        given: values, or their text, by name.

    Raises:
        UsageError: an unknown name or a value of another type.
    """
    given = {k.replace("-", "_"): v for k, v in given.items()}
    if not given:
        return {}
    for name in given:
        if name not in settings:
            raise UsageError(unknown("setting", name, list(settings), of=what))
    made = parser(settings[name] for name in given)
    return {name: _typed(made, what, settings[name], value) for name, value in given.items()}


def _typed(parser: Any, what: str, setting: Setting, value: Any) -> Any:
    from jsonargparse import ArgumentError

    try:
        if value is None and not values.takes_none(setting.type, setting.default):
            raise ArgumentError(None, "null")
        found = parser.parse_object({setting.name: values.plain(setting.type, value)}, defaults=False)[setting.name]
        values.refuse_odd_numbers(found, setting.default)
        return found
    except (ArgumentError, OverflowError):
        raise UsageError(f"--{setting.name} of {what} takes {setting.typename}, not {shown(value)}.") from None
    except values.WrongValue as error:
        raise UsageError(f"--{setting.name} of {what} {error}, not {shown(value)}.") from None


def shown(value: Any) -> str:
    """A value in a sentence: its beginning, where it is long."""
    text = repr(value) if not isinstance(value, int) or abs(value) < values.LARGEST else f"{value:.3e}"
    return text if len(text) <= LONG else f"{text[:LONG]}..."


def check(name: str, given: Mapping[str, Any], where: Where | None = None) -> dict[str, Any]:
    """The given settings, typed, after every check that is possible before anything starts.

    Raises:
        UsageError: an unknown recipe or setting, a wrong type, or a wrong combination.
    """
    settings = known(name)
    chosen = typed(name, settings, given)
    full = {k: s.default for k, s in settings.items()} | chosen
    for key, s in settings.items():
        if s.range and full[key] is not None and full[key] not in s.range:
            raise UsageError(f"--{key} of {name} must be {s.range}, not {full[key]}.")
    where, found = where or Where(), recipe(name)
    if not found.data and full.get("data") == "":
        raise UsageError(f"{name} needs data, such as --data table.csv, --data photos/ or --data digits.")
    if full.get("eval_every") and not full.get("features") and not found.claim:
        raise UsageError(f"--eval_every of {name} needs a number to compare checkpoints by: give --features too.")
    _check_where(where)
    kind(found).check(name, full, where)
    return chosen


def _check_where(where: Where) -> None:
    if where.accelerator not in ("auto", "cpu", "gpu"):
        raise UsageError(unknown("accelerator", where.accelerator, ["auto", "cpu", "gpu"]))
    lowest = {"workers": 1, "runners": 0, "learners": 1, "threads": 1, "max_failures": 0, "min_workers": 0}
    for key, least in lowest.items():
        if getattr(where, key) < least:
            raise UsageError(f"--{key} must be at least {least}, not {getattr(where, key)}.")


def build(name: str, settings: Mapping[str, Any]) -> Any:
    """The recipe's plan with these settings, ready to train: models are made here, so seed torch first.

    Raises:
        UsageError: a number is out of its range.
    """
    found = recipe(name)
    full = {k: s.default for k, s in known(name).items()} | {k: v for k, v in settings.items() if v is not None}
    plan = _call(found.plan, full) if callable(found.plan) else resolved(found.plan, full)
    check_fields(plan)
    return plan


def _call(function: Any, values: Mapping[str, Any]) -> Fit:
    """The function's plan, and in it the options of its kind."""
    wanted = inspect.signature(function).parameters
    made = function(**{k: v for k, v in values.items() if k in wanted})
    options = {s.name for s in fields(type(made))}
    return dataclasses.replace(made, **{k: v for k, v in values.items() if k in options and v is not None})


def resolved(plan: Play | Study, values: Mapping[str, Any]) -> Any:
    """The plan with its algorithm or process built from its fields."""
    first = dataclasses.fields(plan)[0].name
    module, file, name = family_source(plan, target(plan))
    own = {s.name: values[s.name] for s in declared_fields(file, name)}
    built = getattr(importlib.import_module(module), name)(**own)
    options = {f.name: values[f.name] for f in dataclasses.fields(plan) if f.name in values}
    return dataclasses.replace(plan, **{first: built, "settings": {}, **options})


def from_file(recipe: str, settings: Mapping[str, Setting], path: str) -> dict[str, Any]:
    """Settings from a YAML file, typed: a mapping from names to values, such as `reprise tune` writes.

    Args:
        recipe: its name, for the sentence about a wrong value.
        settings: those that there are, by name.
        path: of the file.

    Raises:
        UsageError: it cannot be read, is no mapping, or holds what is no setting of the recipe; file and line are named.
    """
    import yaml

    from cluster import yaml_reader

    found: dict[str, Any] = {}
    try:
        node = yaml_reader.read(path)
        if node is not None and not isinstance(node, yaml.MappingNode):
            raise UsageError(f"The settings file {path} must hold 'name: value' lines.")
        for name, (key, held) in (yaml_reader.pairs(node, path) if node else {}).items():
            setting = settings.get(name.replace("-", "_"))
            as_text = isinstance(held, yaml.ScalarNode) and setting is not None and values.takes_text(setting.type)
            value = yaml_reader.text_of(held) if as_text else yaml_reader.value(held, path)
            one = typed(f"{recipe} ({path}, line {yaml_reader.line(key)})", settings, {name: value})
            if twice := found.keys() & one.keys():
                raise UsageError(f"{path}, line {yaml_reader.line(key)}: '{min(twice)}' is there twice: keep one.")
            found |= one
    except yaml_reader.YamlError as error:
        raise UsageError(f"The settings file {error}") from None
    return found
