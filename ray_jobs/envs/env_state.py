"""Environments as bytes, and back without running code that a stranger may have put there."""

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
"""An environment variable that is 1 where checkpoints are loaded without checks."""
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
"""Classes that hold only values, by module; numpy's reconstructors and bit generators are in `_numpys`."""
LIBRARIES = {"gymnasium", "pettingzoo"}
"""Packages whose classes (and no functions) environments consist of."""

_TRUSTED: ContextVar[bool] = ContextVar("ours", default=False)


@contextmanager
def trusted(yes: bool) -> Iterator[None]:
    """Inside the block, with `yes`, unpickle without checks: this same training has pickled it."""
    before = _TRUSTED.set(yes)
    try:
        yield
    finally:
        _TRUSTED.reset(before)


class Untrusted(UsageError, ValueError):
    """Bytes that hold more than an environment."""


class FullPickler(pickle.Pickler):
    """Refuses objects that are pickled as only the arguments of their constructor.

    Gymnasium's and PettingZoo's EzPickle do that: unpickling then makes a new environment, not the one that was saved.
    """

    def reducer_override(self, obj: Any) -> Any:
        """Refuse EzPickle's objects; leave others to pickle."""
        if any(cls.__name__ == "EzPickle" for cls in type(obj).__mro__):
            raise pickle.PicklingError(f"{type(obj).__name__} keeps only what it was made from")
        return NotImplemented


class SafeUnpickler(pickle.Unpickler):
    """Finds plain values, numpy's, and classes of given packages, but no function that could run code.

    Source: Python's documentation of pickle, "Restricting Globals".
    """

    def __init__(self, state: bytes, packages: Iterable[str]) -> None:
        super().__init__(io.BytesIO(state))
        self.packages = {*packages, *LIBRARIES}

    def find_class(self, module: str, name: str) -> Any:
        """The class of that name.

        Raises:
            Untrusted: it is not an allowed one.
        """
        if name in PLAIN.get(module, ()) or _numpys(module, name):
            return super().find_class(module, name)
        if module.partition(".")[0] in self.packages and "." not in name:
            found = super().find_class(module, name)
            if isinstance(found, type) and found.__module__.partition(".")[0] in self.packages:
                return found
        raise Untrusted(
            f"The checkpoint's environments hold {module}.{name}, which could run a program: if you trust its author, "
            f"resume with --trust (or {TRUST}=1)."
        )


def pickled(x: Any) -> bytes | None:
    """All of x as bytes, or None where it cannot be pickled."""
    out = io.BytesIO()
    try:
        FullPickler(out, pickle.HIGHEST_PROTOCOL).dump(x)
    except Exception:  # libraries refuse in many ways: TypeError, PicklingError, AttributeError ...
        return None
    return out.getvalue()


def unpickled(state: bytes, *like: Any) -> Any:
    """The inverse of `pickled`, for plain values, arrays and classes of the packages that `like` comes from.

    Args:
        like: environments of this run, made by its recipe.

    Raises:
        Untrusted: it holds something else, is not `trusted`, and REPRISE_TRUST is not 1.
    """
    if _TRUSTED.get() or os.environ.get(TRUST) == "1":
        return pickle.loads(state)
    return SafeUnpickler(
        state, {type(part).__module__.partition(".")[0] for env in like for part in layers(env)}
    ).load()


def layers(env: Any) -> Iterator[Any]:
    """An environment, and those that it wraps."""
    while env is not None:
        yield env
        env = next((vars(env)[name] for name in ("env", "aec_env") if name in getattr(env, "__dict__", {})), None)


def _numpys(module: str, name: str) -> bool:
    if module in ("numpy._core.multiarray", "numpy.core.multiarray"):
        return name in ("_reconstruct", "scalar")
    if module in ("numpy._core.numeric", "numpy.core.numeric"):
        return name == "_frombuffer"
    return module.startswith("numpy.random._") and name in ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
