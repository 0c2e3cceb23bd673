"""Pickles that run a program when they are loaded: each leaves a file, the mark."""

from __future__ import annotations

import builtins
import copyreg
import ctypes
import functools
import importlib
import operator
import os
import pickle
import posix
import runpy
import subprocess
import threading
import timeit
import weakref
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector.utils.misc import CloudpickleWrapper
from numpy.testing._private.utils import runstring

from ray_jobs.reproduce.seeds import LocalProcess


class Call:
    """Pickles as a call."""

    def __init__(self, call: Any, *arguments: Any, state: Any = None) -> None:
        self.how = (call, arguments) if state is None else (call, arguments, state)

    def __reduce__(self) -> Any:
        return self.how


class AtSetState:
    """Leaves its mark when its state is set."""

    mark = ""

    def __setstate__(self, state: dict) -> None:
        Path(state["mark"]).touch()


class AtInit:
    """Leaves its mark when it is called."""

    def __init__(self, mark: str) -> None:
        Path(mark).touch()


class AtNew:
    """Leaves its mark when it is made."""

    def __new__(cls, mark: str) -> AtNew:
        if mark:
            Path(mark).touch()
        return super().__new__(cls)

    def __getnewargs__(self) -> tuple[str]:
        return (vars(self).pop("mark", ""),)


class AtDeath:
    """Leaves its mark when it is thrown away."""

    mark = ""

    def __del__(self) -> None:
        if self.mark:
            Path(self.mark).touch()


def having(x: Any, mark: Path) -> Any:
    """The object with the mark as an attribute."""
    vars(x)["mark"] = str(mark)
    return x


def dotted(mark: Path) -> bytes:
    """'os.system', looked up attribute by attribute in a module of Gymnasium that has imported os."""
    words = [b"gymnasium.vector.utils.misc", b"os.system", f"touch {mark}".encode()]
    module, name, command = (pickle.SHORT_BINUNICODE + bytes([len(word)]) + word for word in words)
    return b"\x80\x04" + module + name + b"\x93" + command + b"\x85R."


def payloads(mark: Path, folder: Path) -> dict[str, bytes]:
    """The pickles by name; some of them need files in `folder`, which must be a place that modules are imported from."""
    touch, code = f"touch {mark}", f"open({str(mark)!r}, 'w')"
    for n in range(5):
        (folder / f"marked{n}.py").write_text(f"{code}\ndef make():\n    {code}\n")
    nested = pickle.dumps(Call(os.system, touch))
    (folder / "nested.pt").write_bytes(nested)
    np.save(folder / "nested.npy", np.array([Call(os.system, touch)], object), allow_pickle=True)
    dead = having(AtDeath(), mark)
    imported = Call(importlib.import_module, "os")
    found = {
        "os.system": Call(os.system, touch),
        "posix.system": Call(posix.system, touch),
        "posix.spawn": Call(posix.posix_spawn, "/usr/bin/touch", ["touch", str(mark)], {}),
        "exec": Call(exec, code),
        "eval": Call(eval, code),
        "import": Call(builtins.__import__, "marked0"),
        "getattr": Call(operator.call, Call(getattr, imported, "system"), touch),
        "attrgetter": Call(operator.call, Call(operator.attrgetter("system"), imported), touch),
        "methodcaller": Call(operator.methodcaller("system", touch), imported),
        "partial": Call(functools.partial(os.system, touch)),
        "popen": Call(subprocess.Popen, ["touch", str(mark)]),
        "check_output": Call(subprocess.check_output, ["touch", str(mark)]),
        "cloudpickle": CloudpickleWrapper(Call(os.system, touch)),
        "local_process": Call(LocalProcess, ["touch", str(mark)], folder / "log"),
        "import_module": Call(importlib.import_module, "marked1"),
        "run_path": Call(runpy.run_path, str(folder / "marked2.py")),
        "pickle": Call(pickle.loads, nested),
        "torch": Call(functools.partial(torch.load, folder / "nested.pt", weights_only=False)),
        "numpy": Call(np.load, folder / "nested.npy", None, True),
        "runstring": Call(runstring, code, {}),
        "timeit": Call(timeit.timeit, code, "pass", timeit.default_timer, 1),
        "ctypes": Call(operator.methodcaller("system", touch.encode()), Call(ctypes.CDLL, None)),
        "finalize": Call(weakref.finalize, Call(threading.Event), os.system, touch),
        "gym_make": Call(gym.make, "marked3:Nothing-v0"),
        "env_creator": Call(operator.call, Call(load_env_creator, "marked4:make")),
        "setstate": having(AtSetState(), mark),
        "init": Call(AtInit, str(mark)),
        "new": having(AtNew(""), mark),
        "reconstructor": Call(copyreg._reconstructor, AtInit, AtInit, str(mark)),  # type: ignore[attr-defined]
        "death": dead,
        "map": Call(list, Call(map, os.system, [touch])),
    }
    made = {name: pickle.dumps(payload) for name, payload in found.items()} | {"dotted": dotted(mark)}
    dead.mark = ""  # this one dies here
    return made
