"""Tables that pandas has pickled, read without pandas: nothing that the file names is imported or called.

Each class and function in the file becomes an inert `Part`, which keeps what it is given; arrays are made from their bytes. So files of all
versions of pandas can be read, from 0.14 and Python 2 to 3, and a file that holds something else is refused.
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

PACKAGES = ("pandas", "numpy", "pyarrow")
"""Packages whose names a table's file may hold."""
OTHERS = {(module, name) for module in ("builtins", "__builtin__") for name in ("slice", "bytearray", "object")}
OTHERS |= {("_codecs", "encode"), ("copyreg", "_reconstructor"), ("copy_reg", "_reconstructor")}
KINDS = "biuf"
"""Kinds of arrays that are numeric, as numpy names them."""


class Part:
    """Something in the file: its name, what it was called with, and its state."""

    name = ""

    def __new__(cls, *given: Any) -> Part:
        """Keep what it is called with."""
        part = super().__new__(cls)
        part.given, part.state = given, None
        return part

    given: tuple
    state: Any

    def __init__(self, *given: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, name: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Forget it."""

    extend = append

    def __hash__(self) -> int:
        return id(self)


class Parts(pickle.Unpickler):
    """Finds nothing but parts."""

    def find_class(self, module: str, name: str) -> Any:
        """The inert class of a name.

        Raises:
            ValueError: no table's file holds that name.
        """
        if module.partition(".")[0] not in PACKAGES and (module, name) not in OTHERS:
            raise ValueError(f"it holds {module}.{name}, which belongs to no table")
        return type(name, (Part,), {"name": name})


def read(file: IO[bytes]) -> tuple[list[str], np.ndarray]:
    """Names [D] and values [N, D] float64 of the columns of a pickled table.

    Raises:
        ValueError: it is no pickle of a table of numbers.
    """
    try:
        return table(Parts(file, encoding="latin1").load())
    except ValueError:
        raise
    except Exception as error:  # pickle and wrong parts fail in many ways
        raise ValueError(f"it is no pickle of a table ({type(error).__name__}: {error})") from error


def table(frame: Any) -> tuple[list[str], np.ndarray]:
    """Names and values of a pickled frame."""
    state = frame.state
    manager = next(state[name] for name in ("_mgr", "_data") if name in state)
    blocks, (columns, rows) = inside(manager)
    names = texts(columns)
    values = np.full((length(rows), len(names)), np.nan)
    for block, where in blocks:
        values[:, positions(where)] = block.T
    return names, values


def inside(manager: Part) -> tuple[list[tuple[np.ndarray, Any]], Any]:
    """The blocks, each with the positions of its columns, and the two axes."""
    if manager.given and manager.name != "_reconstructor":  # pandas 1.3 and later
        blocks, axes = manager.given
        return [(array(block.given[0]), block.given[1]) for block in blocks], axes
    state = manager.state[3]["0.14.1"]
    return [(array(block["values"]), block["mgr_locs"]) for block in state["blocks"]], state["axes"]


def positions(where: Any) -> Any:
    """Positions of columns: a slice, or an array of them."""
    if where.name == "BlockPlacement":
        (where,) = where.given
    return slice(*where.given) if where.name == "slice" else array(where)


def length(axis: Part) -> int:
    """How many rows an axis has."""
    data = axis.given[1]
    if "start" in data:
        return len(range(data["start"], data["stop"], data.get("step", 1) or 1))
    return len(array(data["data"]))


def texts(axis: Part) -> list[str]:
    """The names on an axis of columns."""
    if "start" in axis.given[1]:
        return [str(n) for n in range(length(axis))]
    data = axis.given[1]["data"]
    arrow = next((part for part in parts(data) if part.name == "_restore_array"), None)
    if arrow is None:
        return [str(name) for name in array(data, "O")]
    kind, count, _, offset, (_, ends, text), *_ = arrow.given[0]
    step = np.int64 if kind.given[0] == "large_string" else np.int32
    at = np.frombuffer(raw(ends), step)[offset : offset + count + 1]
    return [raw(text)[a:b].decode() for a, b in itertools.pairwise(at)]


def parts(x: Any) -> Iterator[Part]:
    """A part, and those within it."""
    if isinstance(x, Part):
        yield x
        yield from parts(x.given)
        yield from parts(x.state)
    elif isinstance(x, list | tuple):
        for each in x:
            yield from parts(each)
    elif isinstance(x, dict):
        yield from parts(list(x.values()))


def array(x: Part, kinds: str = KINDS) -> np.ndarray:
    """An array of numbers, or of Python's objects where `kinds` is "O".

    Raises:
        ValueError: it is of another kind.
    """
    if x.name == "_frombuffer":
        data, dtype, shape, order = x.given
        return numbers(data, dtype, shape, order, kinds)
    _, shape, dtype, fortran, data = x.state
    if dtype.given[0].lstrip("|<>=") == "O8" or dtype.given[0] == "O":
        if kinds != "O":
            raise ValueError("it has columns that are not numeric")
        return np.array([str(each) for each in data], object)
    return numbers(data, dtype, shape, "F" if fortran else "C", kinds if kinds != "O" else KINDS)


def numbers(data: Any, dtype: Part, shape: tuple, order: Any, kinds: str) -> np.ndarray:
    """An array from its bytes."""
    swapped = dtype.state[1] if dtype.state else "|"
    kind = np.dtype(str(dtype.given[0])).newbyteorder(swapped if swapped in "<>" else "=")
    if kind.kind not in kinds:
        raise ValueError("it has columns that are not numeric")
    return np.frombuffer(raw(data), kind).reshape(shape, order=order)


def raw(x: Any) -> bytes:
    """The bytes that a part holds."""
    if isinstance(x, Part):
        return raw(x.given[0]) if x.given else b""
    return x.encode("latin1") if isinstance(x, str) else bytes(x)
