"""The records of a run folder, each read and checked here: names, types and ranges of their fields.

A record is data that a stranger may have written, or a damaged disk. One that does not fit is refused in one sentence, so that the code
behind this point can rely on every field.
"""

# annotations are evaluated here: a TypedDict learns from them which fields must be there

import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, NotRequired, TypedDict

from ray_jobs.errors import UsageError

FORMAT = 1
"""The version of the records that this code writes; it grows when an older version would misread a new record."""
LARGEST = 2**26
"""Bytes of the largest record that is read."""

Natural = Annotated[int, 0]
"""A whole number of at least 0."""
Positive = Annotated[int, 1]
"""A whole number of at least 1."""
Seconds = Annotated[float, 0]
"""A time of at least 0."""


class PlaceRecord(TypedDict, total=False):
    """Where a run executes, as `spec.Where`."""

    workers: Positive
    runners: Natural
    learners: Positive
    accelerator: typing.Literal["auto", "cpu", "gpu"]
    threads: Positive
    address: str | None
    max_failures: Natural
    min_workers: Natural


class StartRecord(TypedDict):
    """A run that a part of the model starts from."""

    run: str
    recipe: NotRequired[str]
    checkpoint: str
    sha256: str


class RunRecord(TypedDict):
    """run.json."""

    recipe: str
    settings: dict[str, Any]
    seed: Natural
    where: PlaceRecord
    format: NotRequired[Positive]
    out: NotRequired[str | None]
    start: NotRequired[dict[str, str] | None]
    kind: NotRequired[str]
    started: NotRequired[str]
    started_from: NotRequired[dict[str, StartRecord]]
    moved: NotRequired[dict[str, Any]]
    host: NotRequired[str]
    job: NotRequired[str]
    command: NotRequired[str]
    versions: NotRequired[dict[str, str]]
    git: NotRequired[str | None]


class ResultRecord(TypedDict):
    """result.json."""

    metrics: dict[str, float]
    step: NotRequired[Natural]
    seconds: NotRequired[Seconds]
    finished: NotRequired[str]
    device: NotRequired[str]
    cores: NotRequired[int | None]
    splits: NotRequired[dict[str, str]]


class StatusRecord(TypedDict):
    """status.json."""

    state: NotRequired[typing.Literal["running", "stopped", "finished", "failed"]]
    step: NotRequired[Natural]
    steps: NotRequired[Natural]
    pid: NotRequired[int]
    host: NotRequired[str]
    updated: NotRequired[str]
    first_step_at: NotRequired[float]


SCHEMAS: dict[str, Any] = {"run.json": RunRecord, "result.json": ResultRecord, "status.json": StatusRecord}
"""The schema of each record, by the name of its file."""
ABSENT: dict[str, dict[str, Any]] = {
    "run.json": {"kind": "", "started": "", "host": "", "command": "", "versions": {}, "git": None},
    "result.json": {"step": 0, "seconds": 0.0, "finished": "", "device": "cpu", "cores": None, "splits": {}},
    "status.json": {"state": "not started", "step": 0, "steps": 0},
}
"""The values of fields that earlier versions did not write."""


def record(data: bytes, name: str, where: str) -> dict[str, Any]:
    """The content of a record.

    Args:
        data: the file's bytes.
        name: a key of SCHEMAS.
        where: the file, for the sentence.

    Raises:
        UsageError: it is damaged, or a newer version wrote it.
    """
    found = parsed(data, where)
    newer(found, where)
    if wrong := misfit(found, SCHEMAS[name]):
        raise UsageError(f"{where} is damaged, or another version of Reprise wrote it: {wrong}.")
    return ABSENT[name] | found


def parsed(data: bytes, where: str) -> dict[str, Any]:
    """The JSON object in some bytes.

    Raises:
        UsageError: they are too many, or hold none.
    """
    if len(data) > LARGEST:
        raise UsageError(f"{where} is damaged: it has {len(data):,} bytes, and a record at most {LARGEST:,}.")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, thousands of digits or brackets
        raise UsageError(f"{where} is damaged: it is no JSON that can be read ({type(error).__name__}).") from None
    if not isinstance(found, dict):
        raise UsageError(f"{where} is damaged: it holds no JSON object.")
    return found


def newer(found: Mapping[str, Any], where: str) -> None:
    """Refuse a record of a format that this version does not know.

    Raises:
        UsageError: its format is newer.
    """
    version = found.get("format", 1)
    if isinstance(version, int) and version > FORMAT:
        raise UsageError(
            f"{where} was written by a newer version of Reprise (format {shown(version)}; this one reads up to {FORMAT}): update Reprise."
        )


def metrics_line(text: str | bytes) -> dict[str, Any] | None:
    """One line of metrics.jsonl; None where it was cut off by a kill or is damaged."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not all(map(number, found.values())) or not all(map(clean, found)):
        return None
    step, time = found.get("step", -1), found.setdefault("time", 0.0)
    return found if math.isfinite(step) and step >= 0 and math.isfinite(time) and time >= 0 else None


def number(value: Any) -> bool:
    """Whether a value is a number that a float can hold."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 2**1023
    return isinstance(value, float)


def clean(text: str) -> bool:
    """Whether a text can be shown and stored: without control characters, except for line ends and tabs, and without halves of pairs."""
    return text.isprintable() or not any(
        (c < " " and c not in "\n\t\r") or "\x7f" <= c <= "\x9f" or "\ud800" <= c <= "\udfff" for c in text
    )


def misfit(value: Any, type_: Any, at: str = "") -> str:
    """What is wrong with a value of a record, as a clause; '' where it has the type.

    Args:
        value: as JSON gives it.
        type_: a TypedDict, list, tuple or dict of types, union, Literal, Any, number or text; an Annotated number has a least value.
        at: the field's name.
    """
    if type_ is Any:
        return misfit_inside(value, at)
    if typing.is_typeddict(type_):
        return _misfit_fields(value, type_, at)
    origin, parts = typing.get_origin(type_), typing.get_args(type_)
    if origin is Annotated:
        few = f"{at} must be at least {parts[1]}, not {shown(value)}"
        return misfit(value, parts[0], at) or ("" if value >= parts[1] else few)
    if origin in (types.UnionType, typing.Union):
        found = [misfit(value, part, at) for part in parts]
        return "" if "" in found else found[0]
    if origin is typing.Literal:
        return (
            ""
            if any(value == p for p in parts)
            else f"{at} must be one of {', '.join(map(str, parts))}, not {shown(value)}"
        )
    if origin in (list, dict, tuple):
        return _misfit_items(value, origin, parts, at)
    return "" if _is(value, type_) else f"{at} must be {NAMES[type_]}, not {shown(value)}"


NAMES = {
    int: "a whole number",
    float: "a number",
    str: "a text without control characters",
    bool: "true or false",
    types.NoneType: "null",
    dict: "an object",
    list: "a list",
    tuple: "a list",
}


def _is(value: Any, type_: type) -> bool:
    if type_ is str:
        return isinstance(value, str) and clean(value)
    if type_ is float:
        return number(value)
    return isinstance(value, type_) and (type_ is not int or number(value))


def _misfit_fields(value: Any, type_: Any, at: str) -> str:
    if not isinstance(value, dict):
        return f"{at} must be an object, not {shown(value)}"
    hints, dot = typing.get_type_hints(type_, include_extras=True), f"{at}." if at else ""
    for name in type_.__required_keys__ - value.keys():
        return f"the field {dot}{name} is missing"
    if not type_.__required_keys__ and (unknown := sorted(map(str, value.keys() - hints.keys()))):
        return f"the field {dot}{shown(unknown[0])} is unknown"
    for name in (n for n in hints if n in value):
        hint = hints[name]
        if typing.get_origin(hint) in (NotRequired, typing.Required):
            hint = typing.get_args(hint)[0]
        if wrong := misfit(value[name], hint, f"{dot}{name}"):
            return wrong
    return ""


def _misfit_items(value: Any, origin: type, parts: tuple[Any, ...], at: str) -> str:
    if not isinstance(value, dict if origin is dict else list):
        return f"{at} must be {NAMES[origin]}, not {shown(value)}"
    if origin is dict:
        keys = (f"{at} has the key {shown(k)}" for k in value if not clean(k))
        return next(keys, "") or next(
            filter(None, (misfit(v, parts[1], f"{at}.{k[:60]}") for k, v in value.items())), ""
        )
    if origin is tuple and parts[-1] is not ...:
        if len(value) != len(parts):
            return f"{at} must have {len(parts)} entries, not {len(value)}"
        return next(filter(None, (misfit(v, p, at) for v, p in zip(value, parts, strict=True))), "")
    if parts[0] in (float, float | None) and set(map(type, value)) <= {float}:  # most lists of numbers
        return ""
    return next(filter(None, (misfit(v, parts[0], at) for v in value)), "")


def misfit_inside(value: Any, at: str) -> str:
    """What is wrong with a value of any type: a text with control characters, or a number too large, at any depth."""
    if isinstance(value, dict):
        return _misfit_items(value, dict, (str, Any), at)
    if isinstance(value, list):
        return _misfit_items(value, list, (Any,), at)
    if isinstance(value, str):
        return misfit(value, str, at)
    return "" if value is None or isinstance(value, bool) or number(value) else f"{at} is a number too large"


def shown(value: Any) -> str:
    """A value in a sentence: short, and without control characters."""
    text = ascii(value) if not isinstance(value, int) or number(value) else "a number of many digits"
    return text if len(text) <= 60 else f"{text[:57]}..."
