"""Environments as bytes, or not at all; and back, without running what a stranger may have put there."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ray_jobs.errors import UsageError

TRUST = "REPRISE_TRUST"
"""A variable that is 1 where whatever a checkpoint holds may be loaded."""
PATHS = {"Path", "PosixPath", "PurePath", "PurePosixPath"}
PLAIN = {
    "builtins": {
        "bool",
        "bytearray",
        "bytes",
        "complex",
        "dict",
        "float",
        "frozenset",
        "int",
        "list",
        "object",
        "range",
    }
    | {"set", "slice", "str", "tuple"},
    "collections": {"Counter", "OrderedDict", "defaultdict", "deque"},
    "copyreg": {"_reconstructor"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "numpy": {"dtype", "ndarray"},
    "numpy.random._pickle": {"__bit_generator_ctor", "__generator_ctor", "__randomstate_ctor"},
    "numpy.random.bit_generator": {"SeedSequence", "__pyx_unpickle_SeedSequence"},
    "pathlib": PATHS,
    "pathlib._local": PATHS,
    "random": {"Random"},
}
"""What holds values alone, by module; numpy's own reconstructors and bit generators are in `_numpys`."""
LIBRARIES = {"gymnasium", "pettingzoo"}
"""Packages whose classes (and no functions) environments are made of."""


_OURS: ContextVar[bool] = ContextVar("ours", default=False)


@contextmanager
def ours(yes: bool) -> Iterator[None]:
    """Within it, where `yes`, what is unpickled was pickled by this very training, and may be anything."""
    before = _OURS.set(yes)
    try:
        yield
    finally:
        _OURS.reset(before)


class Untrusted(UsageError, ValueError):
    """Bytes that would be more than an environment."""


class Whole(pickle.Pickler):
    """Refuses what would be pickled as no more than the arguments it was made from.

    Gymnasium's and PettingZoo's EzPickle do that: what comes back is a new environment, not the one that was saved.
    """

    def reducer_override(self, obj: Any) -> Any:
        if any(cls.__name__ == "EzPickle" for cls in type(obj).__mro__):
            raise pickle.PicklingError(f"{type(obj).__name__} keeps only what it was made from")
        return NotImplemented


class Careful(pickle.Unpickler):
    """Finds plain values, numpy's, and classes of given packages; no function that could do something.

    Source: Python's documentation of pickle, "Restricting Globals".
    """

    def __init__(self, state: bytes, packages: Iterable[str]) -> None:
        super().__init__(io.BytesIO(state))
        self.packages = {*packages, *LIBRARIES}

    def find_class(self, module: str, name: str) -> Any:
        if name in PLAIN.get(module, ()) or _numpys(module, name):
            return super().find_class(module, name)
        if module.partition(".")[0] in self.packages and "." not in name:
            found = super().find_class(module, name)
            if isinstance(found, type) and found.__module__.partition(".")[0] in self.packages:
                return found
        raise Untrusted(
            f"The checkpoint's environments hold {module}.{name}, which could run a program: if you trust whoever wrote "
            f"it, resume with --trust (or {TRUST}=1)."
        )


def pickled(x: Any) -> bytes | None:
    """All of x, or None where that cannot be."""
    out = io.BytesIO()
    try:
        Whole(out, pickle.HIGHEST_PROTOCOL).dump(x)
    except Exception:  # each library refuses in a way of its own: TypeError, PicklingError, AttributeError ...
        return None
    return out.getvalue()


def unpickled(state: bytes, *like: Any) -> Any:
    """The inverse of `pickled`, for plain values, arrays and classes of the packages that `like`'s own are of.

    Args:
        like: environments of this run, made by its recipe.

    Raises:
        Untrusted: it holds something else, is not `ours`, and REPRISE_TRUST is not 1.
    """
    if _OURS.get() or os.environ.get(TRUST) == "1":
        return pickle.loads(state)
    return Careful(state, {type(part).__module__.partition(".")[0] for env in like for part in layers(env)}).load()


def layers(env: Any) -> Iterator[Any]:
    """An environment and all that it is wrapped around."""
    while env is not None:
        yield env
        env = next((vars(env)[name] for name in ("env", "aec_env") if name in getattr(env, "__dict__", {})), None)


def _numpys(module: str, name: str) -> bool:
    if module in ("numpy._core.multiarray", "numpy.core.multiarray"):
        return name in ("_reconstruct", "scalar")
    if module in ("numpy._core.numeric", "numpy.core.numeric"):
        return name == "_frombuffer"
    return module.startswith("numpy.random._") and name in ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
