"""Environments as bytes, or not at all."""

from __future__ import annotations

import io
import pickle
from typing import Any


class Whole(pickle.Pickler):
    """Refuses what would be pickled as no more than the arguments it was made from.

    Gymnasium's and PettingZoo's EzPickle do that: what comes back is a new environment, not the one that was saved.
    """

    def reducer_override(self, obj: Any) -> Any:
        if any(cls.__name__ == "EzPickle" for cls in type(obj).__mro__):
            raise pickle.PicklingError(f"{type(obj).__name__} keeps only what it was made from")
        return NotImplemented


def pickled(x: Any) -> bytes | None:
    """All of x, or None where that cannot be."""
    out = io.BytesIO()
    try:
        Whole(out, pickle.HIGHEST_PROTOCOL).dump(x)
    except Exception:  # each library refuses in a way of its own: TypeError, PicklingError, AttributeError ...
        return None
    return out.getvalue()


def unpickled(state: bytes) -> Any:
    """The inverse of `pickled`."""
    return pickle.loads(state)
