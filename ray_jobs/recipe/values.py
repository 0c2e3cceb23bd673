"""Values of settings as a command line and a YAML file give them, checked before a parser converts them.

jsonargparse reads texts by YAML 1.1, for which 1:30 is the number 90; here all texts are read by `cluster.yaml_reader` first.
"""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

LARGEST = 2**63
"""A whole number is below it: the seeds and sizes of torch and numpy are."""
YES_OR_NO = {"yes": True, "on": True, "no": False, "off": False}


class WrongValue(ValueError):
    """A value that a setting cannot take; the message says what it takes instead, or why."""


def plain(type_: Any, given: Any) -> Any:
    """A value that jsonargparse converts as intended: a text for a setting of another type becomes JSON.

    Args:
        type_: the setting's type.
        given: the value, or its text.

    Raises:
        WrongValue: the text holds characters that no text has, or is beyond the bounds of `cluster.yaml_reader`.
    """
    if not isinstance(given, str):
        return given
    if any(c == "\0" or "\ud800" <= c <= "\udfff" for c in given):
        raise WrongValue("holds a character that no text has")
    if takes_text(type_):
        return given
    from cluster.yaml_reader import YamlError, loads

    try:
        read = loads(given)
    except YamlError:
        raise WrongValue("cannot be read") from None
    if bool in _parts(type_) and isinstance(read, str):
        read = YES_OR_NO.get(read.lower(), read)
    return json.dumps(read) if given.strip() else given


def refuse_odd_numbers(given: Any, default: Any) -> None:
    """Refuse a number that is not finite or too large, and None, where the setting's default is not of that sort.

    Args:
        given: the converted value.
        default: the setting's own.

    Raises:
        WrongValue: it is one.
    """
    infinite = isinstance(default, float) and math.isinf(default)
    for number in given if isinstance(given, tuple | list) else [given]:
        if isinstance(number, float) and (math.isnan(number) or (math.isinf(number) and not infinite)):
            raise WrongValue("must be a finite number")
        if isinstance(number, int) and abs(number) >= LARGEST:
            raise WrongValue("must be a whole number below 2^63")


def takes_none(type_: Any, default: Any) -> bool:
    """Whether a setting may be None: by its type, or because it has no other default."""
    return default is None or type(None) in _parts(type_)


def takes_text(type_: Any) -> bool:
    """Whether a setting takes any text, or one of several, as it is written."""
    return any(part is str or typing.get_origin(part) is typing.Literal for part in _parts(type_))


def value_type(type_: Any) -> Any:
    """The type of the values of a mapping, which '--name.key value' sets."""
    held = next(part for part in _parts(type_) if typing.get_origin(part) in (dict, Mapping))
    return (*typing.get_args(held), Any)[1]


def _parts(type_: Any) -> tuple[Any, ...]:
    """The types of a union; a type alone is its only part."""
    if typing.get_origin(type_) is typing.Annotated:
        return _parts(typing.get_args(type_)[0])
    return typing.get_args(type_) if typing.get_origin(type_) in (typing.Union, types.UnionType) else (type_,)
