"""Objects from the plain data of `plain_state`: nothing that the data says is imported or called.

An object of a class comes back without a call of the class: its attributes are set, and no method runs. The class must be one of those that
the reader is given, which are those of the environment to be restored.
"""

from __future__ import annotations

import base64
import datetime
import enum
import json
import pathlib
import random
import sys
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

import numpy as np

from ray_jobs.envs.plain_state import ATOMS, BITS, DATES, KINDS, LISTS, MAPS, PATHS, NotPlain, is_plain, name_of

Find = Callable[[str], Any]
"""Gives the class or function of a name 'module:Name'; raises `Unknown`."""
POOL = 64
"""The largest pool of a sequence of seeds."""


class Unknown(NotPlain):
    """A name that the environment to be restored does not have."""


class Wrong(Exception):
    """Data that this module did not write."""


def from_data(data: bytes, find: Find) -> Any:
    """The inverse of `to_data`.

    Raises:
        Unknown: it holds an object of a class that `find` does not give.
        Wrong: it is no such data.
    """
    try:
        found = json.loads(data)
        return Reader(found["nodes"], find).read(found["root"])
    except Unknown:
        raise
    except Exception as error:  # whatever wrong data makes of numpy, base64 and the rest
        raise Wrong(f"{type(error).__name__}: {error}") from error


class Reader:
    """Turns nodes into objects. Those that can hold themselves are made empty, and filled later; hashed containers last of all."""

    def __init__(self, nodes: list[Any], find: Find) -> None:
        self.nodes, self.find = nodes, find
        self.made: dict[int, Any] = {}
        self.empty: list[tuple[Any, list[Any]]] = []
        self.hashed: list[tuple[Any, list[Any]]] = []

    def read(self, root: Any) -> Any:
        """The object of a value."""
        found = self.value(root)
        while self.empty:
            self.fill(*self.empty.pop())
        for container, content in self.hashed:
            container.update(content if isinstance(container, set) else OrderedDict(content))
        return found

    def value(self, x: Any) -> Any:
        """A plain value itself, else the object of a node."""
        if not isinstance(x, list):
            if type(x) not in ATOMS:
                raise ValueError("no value")
            return x
        (at,) = x
        if type(at) is not int or at < 0:
            raise ValueError("no number of a node")
        if at not in self.made:
            self.made[at] = self.object(*self.nodes[at])
        return self.made[at]

    def values(self, xs: list[Any]) -> list[Any]:
        """Several objects."""
        return [self.value(x) for x in xs]

    def later(self, shell: Any, *node: Any) -> Any:
        """An empty object that is filled later."""
        self.empty.append((shell, list(node)))
        return shell

    def object(self, kind: str, *node: Any) -> Any:
        """The object of a node, which may still be empty."""
        if kind in ("list", "set", *MAPS):
            return self.later((LISTS | MAPS)[kind](), *node)
        if kind == "deque":
            return self.later(deque(maxlen=node[1]), node[0])
        if kind == "defaultdict":
            return self.later(defaultdict(self.known(node[1], type) if node[1] else None), node[0])
        if kind == "object":
            cls = self.known(node[0], type)
            if not is_plain(cls):
                raise Unknown(name_of(cls))
            return self.later(cls.__new__(cls), *node[1:])
        return getattr(self, f"make_{kind}")(*node)

    def fill(self, shell: Any, node: list[Any]) -> None:
        """Fill an empty object."""
        if isinstance(shell, set):
            self.hashed.append((shell, self.values(node[0])))
        elif isinstance(shell, dict):
            self.hashed.append((shell, [tuple(self.values(pair)) for pair in node[0]]))
        elif isinstance(shell, list | deque):
            shell.extend(self.values(node[0]))
        else:
            self.set_attributes(shell, *node)

    def set_attributes(self, shell: Any, named: list[Any], slots: list[Any]) -> None:
        """Set the attributes of an object, past its class's own way of setting them."""
        if named:
            own = object.__getattribute__(shell, "__dict__")
            own.update({sys.intern(name): self.value(x) for name, x in named})
        for name, x in slots:
            slot = next(vars(base)[name] for base in type(shell).__mro__ if name in vars(base))
            if not isinstance(slot, types.MemberDescriptorType):
                raise ValueError("no slot")
            slot.__set__(shell, self.value(x))

    def known(self, x: Any, kind: type) -> Any:
        """The class of a node."""
        found = self.value(x)
        if not isinstance(found, kind):
            raise ValueError(f"no {kind.__name__}")
        return found

    def make_name(self, name: str) -> Any:
        """A class or function."""
        return self.find(name)

    def make_tuple(self, xs: list[Any]) -> tuple:
        """A tuple."""
        return tuple(self.values(xs))

    def make_frozenset(self, xs: list[Any]) -> frozenset:
        """A frozenset."""
        return frozenset(self.values(xs))

    def make_namedtuple(self, cls: Any, xs: list[Any]) -> Any:
        """A named tuple, without a call of its class."""
        return tuple.__new__(self.known(cls, type), self.values(xs))

    def make_enum(self, cls: Any, name: str) -> Any:
        """A member of an enumeration."""
        return self.known(cls, enum.EnumMeta).__members__[name]

    def make_array(self, dtype: str, shape: list[int], order: Any, data: str) -> np.ndarray:
        """An array."""
        kind = self.make_dtype(dtype)
        flat = np.frombuffer(bytearray(base64.b64decode(data)), kind)
        return flat.reshape(shape, order=order).copy(order)

    def make_scalar(self, dtype: str, shape: list[int], order: Any, data: str) -> Any:
        """A scalar of numpy."""
        return self.make_array(dtype, [1], "C", data)[0]

    def make_dtype(self, name: str) -> np.dtype:
        """The type of an array's elements."""
        found = np.dtype(str(name))
        if found.kind not in KINDS:
            raise ValueError(f"a type {name}")
        return found

    def make_seeds(self, entropy: Any, key: Any, size: int, spawned: int) -> np.random.SeedSequence:
        """A sequence of seeds."""
        if not 0 < size <= POOL:
            raise ValueError("a pool of another size")
        return np.random.SeedSequence(
            self.value(entropy), spawn_key=self.value(key), pool_size=size, n_children_spawned=spawned
        )

    def make_bits(self, name: str, state: Any, seeds: Any) -> Any:
        """A source of random bits."""
        found = BITS[name](self.known(seeds, np.random.SeedSequence))
        found.state = self.whole_state(state)
        return found

    def make_generator(self, bits: Any) -> np.random.Generator:
        """A generator of random numbers."""
        return np.random.Generator(self.known(bits, np.random.BitGenerator))

    def make_random_state(self, name: str, state: Any) -> np.random.RandomState:
        """An old generator of random numbers."""
        found = np.random.RandomState(BITS[name](0))
        found.set_state(self.whole_state(state))
        return found

    def whole_state(self, state: Any) -> dict:
        """The state of a generator, a dictionary of dictionaries; its position, which numpy does not check, is within its block."""
        found = Reader(self.nodes, self.find).read(state)
        block = {"MT19937": 624, "Philox": 4}.get(found["bit_generator"], 0)
        if not 0 <= found["state"].get("pos", 0) <= block or not 0 <= found.get("buffer_pos", 0) <= block:
            raise ValueError("a position outside of the block")
        return found

    def make_random(self, state: Any) -> random.Random:
        """A generator of the standard library."""
        found = random.Random()
        found.setstate(self.value(state))
        return found

    def make_bytes(self, data: str) -> bytes:
        """Bytes."""
        return base64.b64decode(data)

    def make_bytearray(self, data: str) -> bytearray:
        """Bytes that can change."""
        return bytearray(base64.b64decode(data))

    def make_complex(self, real: float, imaginary: float) -> complex:
        """A complex number."""
        return complex(real, imaginary)

    def make_range(self, *ends: Any) -> range:
        """A range."""
        return range(*self.values(list(ends)))

    def make_slice(self, *ends: Any) -> slice:
        """A slice."""
        return slice(*self.values(list(ends)))

    def make_path(self, kind: str, text: str) -> pathlib.PurePath:
        """A path."""
        return next(cls for cls in PATHS if cls.__name__ == kind)(text)

    def make_timedelta(self, days: int, seconds: int, micro: int) -> datetime.timedelta:
        """A length of time."""
        return datetime.timedelta(days, seconds, micro)

    def make_date(self, kind: str, text: str) -> Any:
        """A date, a time, or both."""
        return DATES[kind].fromisoformat(text)
