"""Environments as bytes, and back without running code that a stranger may have put there."""

from __future__ import annotations

import importlib
import io
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from ray_jobs.envs.plain_reader import Unknown, Wrong, from_data
from ray_jobs.envs.plain_state import BUILTINS, NotPlain, name_of, names_in, to_data
from ray_jobs.errors import UsageError

TRUST = "REPRISE_TRUST"
"""An environment variable that is 1 where checkpoints are loaded without checks."""
_TRUSTED: ContextVar[bool] = ContextVar("ours", default=False)


@contextmanager
def trusted(yes: bool) -> Iterator[None]:
    """Inside the block, with `yes`, restore without checks: this same training has saved it."""
    before = _TRUSTED.set(yes)
    try:
        yield
    finally:
        _TRUSTED.reset(before)


class Untrusted(UsageError, ValueError):
    """Bytes that hold more than plain values and what the environments of this run consist of."""


class FullPickler(pickle.Pickler):
    """Refuses objects that are pickled as only the arguments of their constructor.

    Gymnasium's and PettingZoo's EzPickle do that: unpickling then makes a new environment, not the one that was saved.
    """

    def reducer_override(self, obj: Any) -> Any:
        """Refuse EzPickle's objects; leave others to pickle."""
        if any(cls.__name__ == "EzPickle" for cls in type(obj).__mro__):
            raise pickle.PicklingError(f"{type(obj).__name__} keeps only what it was made from")
        return NotImplemented


def saved(x: Any) -> bytes | None:
    """All of x as bytes: plain data, else a pickle, which only `--trust` restores; None where neither can hold it."""
    try:
        return to_data(x)
    except NotPlain:
        pass
    out = io.BytesIO()
    try:
        FullPickler(out, pickle.HIGHEST_PROTOCOL).dump(x)
    except Exception:  # libraries refuse in many ways: TypeError, PicklingError, AttributeError ...
        return None
    return out.getvalue()


def restored(data: bytes, like: Any) -> Any:
    """The inverse of `saved`.

    Args:
        like: the same of this run, as its recipe makes it: only classes that are in it are restored, and arrays and lists are as large.

    Raises:
        Untrusted: it holds something else, is not `trusted`, and REPRISE_TRUST is not 1.
        UsageError: it is damaged, or of something else.
    """
    trust = _TRUSTED.get() or os.environ.get(TRUST) == "1"
    if not data.startswith(b"{"):
        if not trust:
            raise refused("a pickle")
        return pickle.loads(data)
    names = {name_of(kind): kind for kind in BUILTINS} | names_in(like)

    def find(name: str) -> Any:
        if name not in names:
            if not trust:
                raise Unknown(name)
            names[name] = imported(name)
        return names[name]

    try:
        found = from_data(data, find)
    except Unknown as error:
        raise refused(str(error)) from None
    except Wrong as error:
        raise UsageError(f"The checkpoint's environments cannot be read ({error}): it is damaged.") from None
    if not alike(found, like):
        raise UsageError("The checkpoint's environments are not those of this run's recipe.")
    return found


def refused(what: str) -> Untrusted:
    """The sentence about a checkpoint that holds `what`."""
    return Untrusted(
        f"The checkpoint's environments hold {what}, which could run a program: if you trust its author, "
        f"resume with --trust (or {TRUST}=1)."
    )


def imported(name: str) -> Any:
    """The class or function of a name 'module:Name', from wherever it is."""
    module, _, inside = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in inside.split("."):
        found = getattr(found, part)
    return found


def alike(found: Any, like: Any) -> bool:
    """Whether two things are of one type, arrays of one shape too, and all that tuples and lists hold."""
    if type(found) is not type(like):
        return False
    if isinstance(found, np.ndarray):
        return found.shape == like.shape and found.dtype == like.dtype
    if isinstance(found, tuple | list):
        return len(found) == len(like) and all(map(alike, found, like))
    return True
