"""Objects as plain data in JSON: the writer; `plain_reader` is the way back.

Each object is a node, and a value is a plain one (None, bool, int, float, str) or [the number of a node], so that what is shared stays
shared. An object of a class is the class's name and the object's attributes.
"""

from __future__ import annotations

import base64
import contextlib
import copyreg
import datetime
import enum
import json
import pathlib
import random
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable
from typing import Any, Generic

import numpy as np

ATOMS = (type(None), bool, int, float, str)
LISTS = {kind.__name__: kind for kind in (list, tuple, set, frozenset)}
MAPS = {kind.__name__: kind for kind in (dict, OrderedDict, Counter)}
PATHS = (pathlib.PosixPath, pathlib.PurePosixPath, pathlib.WindowsPath, pathlib.PureWindowsPath)
DATES: dict[str, Any] = {kind.__name__: kind for kind in (datetime.date, datetime.time, datetime.datetime)}
KINDS = "biufcSUmM"
"""Kinds of arrays that hold no Python objects, as numpy names them."""
BITS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64)
}
BUILTINS = (bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset)


class NotPlain(Exception):
    """An object that is more than its attributes, or something else that is no plain data."""


def to_data(x: Any) -> bytes:
    """An object, with everything that it holds, as data.

    Raises:
        NotPlain: it holds something that is no plain data.
    """
    writer = Writer()
    root = writer.value(x)
    try:
        return json.dumps({"root": root, "nodes": writer.nodes}).encode()
    except ValueError as error:  # an integer of more than 4,300 digits
        raise NotPlain(str(error)) from error


def names_in(x: Any) -> dict[str, Any]:
    """The classes and functions that an object holds, by name."""
    writer = Writer()
    with contextlib.suppress(NotPlain):  # those found before it count
        writer.value(x)
    return writer.names


def name_of(x: Any) -> str:
    """The name 'module:Name' by which a class or function can be found.

    Raises:
        NotPlain: it cannot.
    """
    name = f"{x.__module__}:{x.__qualname__}"
    found: Any = sys.modules.get(x.__module__)
    for part in x.__qualname__.split("."):
        found = getattr(found, part, None)
    if found is not x:
        raise NotPlain(f"{name} is found nowhere")
    return name


class Writer:
    """Turns objects into nodes."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.names: dict[str, Any] = {}
        self.seen: dict[int, int] = {}
        self.kept: list[Any] = []  # so that no other object gets the identity of one that was seen

    def value(self, x: Any) -> Any:
        """A plain value itself, anything else as [the number of its node]."""
        if type(x) in ATOMS:
            return x
        if id(x) not in self.seen:
            self.kept.append(x)
            self.seen[id(x)] = at = len(self.nodes)
            self.nodes.append(None)
            try:
                self.nodes[at] = self.node(x)
            except RecursionError:
                raise NotPlain("it is nested too deeply") from None
        return [self.seen[id(x)]]

    def values(self, xs: Iterable[Any]) -> list[Any]:
        """Several values."""
        return [self.value(x) for x in xs]

    def pairs(self, x: Any) -> list[Any]:
        """The keys and values of a mapping."""
        return [self.values(pair) for pair in x.items()]

    def node(self, x: Any) -> list[Any]:
        """The node of an object: its kind, and what it is made from.

        Raises:
            NotPlain: it has none.
        """
        kind = type(x)
        if kind in LISTS.values():
            return [kind.__name__, self.values(x)]
        if kind in MAPS.values():
            return [kind.__name__, self.pairs(x)]
        if kind is deque:
            return ["deque", self.values(x), x.maxlen]
        if kind is defaultdict:
            return ["defaultdict", self.pairs(x), self.value(x.default_factory)]
        if isinstance(x, np.ndarray | np.generic | np.dtype | np.random.Generator | np.random.BitGenerator) or kind in (
            np.random.RandomState,
            np.random.SeedSequence,
        ):
            return self.numpys(x)
        if isinstance(x, type | types.FunctionType | types.BuiltinFunctionType):
            self.names[name_of(x)] = x
            return ["name", name_of(x)]
        return self.small(x) or self.instance(x)

    def numpys(self, x: Any) -> list[Any]:
        """The node of an array, or of another object of numpy."""
        kind = type(x)
        if isinstance(x, np.ndarray | np.generic):
            if x.dtype.kind not in KINDS or kind not in (np.ndarray, x.dtype.type) or x.dtype.metadata:
                raise NotPlain(f"an array of {x.dtype}")
            order = "F" if x.ndim > 1 and x.flags.f_contiguous and not x.flags.c_contiguous else "C"
            data = base64.b64encode(x.tobytes(order)).decode()
            return ["array" if kind is np.ndarray else "scalar", x.dtype.str, list(x.shape), order, data]
        if isinstance(x, np.dtype) and x.kind in KINDS:
            return ["dtype", x.str]
        if kind is np.random.SeedSequence:
            return ["seeds", *self.values((x.entropy, tuple(x.spawn_key), x.pool_size, x.n_children_spawned))]
        if kind is np.random.Generator:
            return ["generator", self.value(x.bit_generator)]
        if kind is np.random.RandomState:
            state = x.get_state(legacy=False)
            return ["random_state", state["bit_generator"], self.value(state)]
        if kind.__name__ in BITS and kind is BITS[kind.__name__]:
            return ["bits", kind.__name__, self.value(x.state), self.value(x.seed_seq)]
        raise NotPlain(f"a {kind.__module__}.{kind.__qualname__}")

    def small(self, x: Any) -> list[Any] | None:
        """The node of a small value of the standard library; None for anything else."""
        kind = type(x)
        if kind in (bytes, bytearray):
            return [kind.__name__, base64.b64encode(x).decode()]
        if kind is complex:
            return ["complex", x.real, x.imag]
        if kind in (range, slice):
            return [kind.__name__, *self.values((x.start, x.stop, x.step))]
        if kind in PATHS:
            return ["path", kind.__name__, str(x)]
        if kind is datetime.timedelta:
            return ["timedelta", x.days, x.seconds, x.microseconds]
        if kind.__name__ in DATES and kind is DATES[kind.__name__] and getattr(x, "tzinfo", None) is None:
            return ["date", kind.__name__, x.isoformat()]
        if kind is random.Random:
            return ["random", self.value(x.getstate())]
        if isinstance(x, enum.Enum) and kind.__members__.get(x.name) is x:
            return ["enum", self.value(kind), x.name]
        if isinstance(x, tuple) and hasattr(kind, "_fields") and kind.__reduce_ex__ is object.__reduce_ex__:
            return ["namedtuple", self.value(kind), self.values(x)]
        return None

    def instance(self, x: Any) -> list[Any]:
        """The node of an object that is its attributes, in its __dict__ and its slots.

        Raises:
            NotPlain: it is more than that.
        """
        kind = type(x)
        if not is_plain(kind):
            raise NotPlain(f"a {kind.__module__}.{kind.__qualname__}")
        try:
            made, arguments, state, *more = x.__reduce_ex__(
                2
            )  # Python's own, which refuses what C code keeps to itself
        except TypeError as error:
            raise NotPlain(str(error)) from error
        if made is not copyreg.__newobj__ or arguments != (kind,) or any(part is not None for part in more):  # type: ignore[attr-defined]
            raise NotPlain(f"a {kind.__module__}.{kind.__qualname__}")
        named, slots = state if isinstance(state, tuple) else (state, None)
        return ["object", self.value(kind), self.pairs(named or {}), self.pairs(slots or {})]


def is_plain(kind: type) -> bool:
    """Whether objects of a class are their attributes and no more: the class has no say in how they are made, saved and restored.

    Gymnasium's spaces have one for the sake of files of its earlier versions alone.
    """
    inherited = all(getattr(kind, name, None) is getattr(object, name, None) for name in ("__reduce__", "__getstate__"))
    setting = next((base for base in kind.__mro__ if "__setstate__" in vars(base)), None)
    return (
        inherited
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__new__ in (object.__new__, Generic.__new__)
        and (setting is None or setting.__module__.startswith("gymnasium.spaces."))
    )
