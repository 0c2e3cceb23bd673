"""The command line as a user has it: `reprise` in a process of its own, and folders to look into."""

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch

from ray_jobs.cli import main

ENV = os.environ | {"OMP_NUM_THREADS": "1", "RAY_ADDRESS": ""}
OURS = {"PYTHONPATH": str(Path(__file__).parents[2])}
"""For recipes in `tests`: Ray's workers import nothing from the current folder."""


@contextlib.contextmanager
def start(*words: object, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen]:
    """`reprise words...`, begun, with more variables in its environment; it ends with the block at the latest."""
    command = [sys.executable, "-m", "ray_jobs.cli", *map(str, words)]
    process = subprocess.Popen(
        command, env=ENV | (env or {}), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def reprise(*words: object, code: int = 0, env: Mapping[str, str] | None = None) -> str:
    """`reprise words...`, done: what it printed, both streams; its exit code must be `code`."""
    with start(*words, env=env) as process:
        out, err = process.communicate(timeout=400)
    assert process.returncode == code, (process.returncode, out, err)
    return out + err


def here(*words: object, code: int = 0) -> str:
    """`reprise words...` in this process, without the seconds that a new one takes to start: what it printed, both streams."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        found = main([str(word) for word in words])
    assert found == code, (found, printed.getvalue())
    return printed.getvalue()


STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "socket.connect")
"""What Python itself reports when a program is started or an address is reached."""
_watchers: list[list[str]] = []


def _hear(event: str, args: tuple) -> None:
    if _watchers and event in STARTS:
        for heard in _watchers:
            heard.append(f"{event} {args}"[:200])


@contextlib.contextmanager
def what_starts() -> Iterator[list[str]]:
    """The programs that this process starts in the block, and the addresses that it reaches."""
    if not hasattr(_hear, "added"):
        sys.addaudithook(_hear)
        _hear.added = True
    heard: list[str] = []
    _watchers.append(heard)
    try:
        yield heard
    finally:
        _watchers.remove(heard)


def wait_for(condition: Callable[[], object], process: subprocess.Popen | None = None, seconds: float = 300.0) -> None:
    """Look until `condition()` is true, at most so long, and only while `process` runs."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, f"it ended first: {process.communicate()}"
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def lines(run: Path) -> list[dict]:
    """The metrics of a run, without the times, which no two runs share."""
    path = Path(run) / "metrics.jsonl"
    found = [json.loads(x) for x in path.read_text().splitlines()] if path.exists() else []
    clocks = ("time", "share", "rate", "per_s", "seconds", "sps")
    return [{k: v for k, v in line.items() if not any(c in k for c in clocks)} for line in found]


def newest(run: Path) -> dict:
    """The newest checkpoint of a run."""
    return torch.load(max((Path(run) / "checkpoints").glob("*.ckpt")), weights_only=True)


def equal(a, b) -> bool:
    """Whether two states hold the same bits; clocks, which are no state, aside."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b or (a != a and b != b)


def alike(a: Path, b: Path) -> bool:
    """Whether two runs logged the same, and learned the same weights."""
    return lines(a) == lines(b) and equal(learned(newest(a)), learned(newest(b)))


def learned(state: dict) -> dict:
    """What a checkpoint has learned: the weights of a model or an agent, the state of a study."""
    if "arrays" in state:
        return state["state"]
    return state["state_dict"] if "state_dict" in state else state["learners"][0]["learner"]["actor"]
