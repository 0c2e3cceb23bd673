"""What may make an environment: a run folder of a stranger names a function and its arguments, and any other must not be called."""

from __future__ import annotations

import sys
from typing import Any

LIBRARIES = ("gymnasium", "pettingzoo")


def makes_environments(make: Any) -> bool:
    """Whether something is a class of environments, or a function of a module that uses them; it is not called."""
    make = getattr(make, "func", make)  # of a functools.partial
    if isinstance(make, type):
        return is_environment(make)
    home = getattr(make, "__module__", None) or type(make).__module__
    return any(map(uses_environments, list(vars(sys.modules.get(home, sys)).values())))


def is_environment(kind: type) -> bool:
    """Whether a class has the methods of Gymnasium's or PettingZoo's environments."""
    return callable(getattr(kind, "reset", None)) and callable(getattr(kind, "step", None))


def uses_environments(x: Any) -> bool:
    """Whether a value in a module is of a library of environments, or a class of environments."""
    if isinstance(x, type) and is_environment(x):
        return True
    home = getattr(x, "__name__" if isinstance(x, type(sys)) else "__module__", None)
    return isinstance(home, str) and home.partition(".")[0] in LIBRARIES
