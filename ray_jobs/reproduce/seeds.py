"""Several seeds at a time, each a process that runs the command a user would type."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from ray_jobs.errors import UsageError
from ray_jobs.recipe.spec import Spec, Where, as_flags
from ray_jobs.run.files import last_lines, opened
from ray_jobs.run.folder import Run
from ray_jobs.run.mirror import CONTINUED
from ray_jobs.run.place import AT_WORK

TRIES = 3
"""How often a seed that another process had is looked at again."""
GRACE = 120.0
"""Seconds that a stopped seed has to save its checkpoint before it is killed."""


@dataclass(frozen=True)
class Seed:
    """One seed of one recipe, and the folder of its run (a path or a URI)."""

    recipe: str
    number: int
    folder: str
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    where: Where = field(default_factory=Where)
    """Where and how wide to run."""
    together: int = 1
    """Seeds that train in one process."""

    @property
    def run(self) -> Run:
        """The run folder."""
        return Run.at(self.folder)

    @property
    def log(self) -> Path:
        """The process's output, next to the run folder."""
        path = self.run.path
        return path.with_name(f"{path.name}.log")

    def __str__(self) -> str:
        return f"{self.recipe} seed {self.number}"


@dataclass(frozen=True)
class SeedGroup:
    """Seeds of one recipe that train in one process."""

    seeds: tuple[Seed, ...]

    @property
    def log(self) -> Path:
        """The process's output: the first seed's file."""
        return self.seeds[0].log


Unit = Seed | SeedGroup
"""The seeds of one process."""


def members(unit: Unit) -> tuple[Seed, ...]:
    """The seeds of a unit."""
    return unit.seeds if isinstance(unit, SeedGroup) else (unit,)


def grouped(seeds: Iterable[Seed]) -> list[Unit]:
    """Put seeds that train together into groups of at most `together` at the same step; a seed that another process holds stays alone."""
    units: list[Unit] = []
    alike: dict[tuple[str, str], list[Seed]] = {}
    for seed in seeds:
        if seed.together == 1 or held(seed):
            units.append(seed)
        else:
            newest = [path.name for path in fetch(seed, checkpoints=True).checkpoints()[:1]]
            alike.setdefault((seed.recipe, "".join(newest)), []).append(seed)
    for same in alike.values():
        n = same[0].together
        parts = [tuple(same[i : i + n]) for i in range(0, len(same), n)]
        units += [SeedGroup(part) if len(part) > 1 else part[0] for part in parts]
    return units


def fetch(seed: Seed, *, checkpoints: bool = False) -> Run:
    """The seed's run; a remote run is fetched first, its checkpoints only if asked for."""
    run = seed.run
    if run.uri:
        run.pull(checkpoints=checkpoints)
    return run


Build = Callable[[Unit], list[str]]
"""Makes the command that trains or continues a unit."""


def command(seed: Unit) -> list[str]:
    """`reprise resume FOLDER` where the folder holds an unfinished run, else `reprise train R ...`; a group has one command for both."""
    if isinstance(seed, SeedGroup):
        specs = [asdict(Spec(s.recipe, dict(s.settings), s.number, s.where, s.folder)) for s in seed.seeds]
        return [sys.executable, "-P", "-m", "ray_jobs.reproduce.seeds_together", json.dumps(specs)]
    reprise = [sys.executable, "-P", "-m", "ray_jobs.cli"]
    if seed.run.place.holds_run():
        return [*reprise, "resume", seed.folder]
    options_of_run = ["--seed", str(seed.number), "--out", seed.folder]
    return [*reprise, "train", seed.recipe, *options_of_run, *as_flags(seed.where), *options(seed.settings)]


def options(settings: Mapping[str, Any]) -> list[str]:
    """Settings as words of the command line."""
    return [f"--{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in settings.items()]


class Process(Protocol):
    """A running seed, on this machine or on a cluster."""

    def poll(self) -> int | None:
        """Its exit code, or None while it works."""

    def tail(self) -> list[str]:
        """The last lines that it wrote."""

    def terminate(self) -> None:
        """Ask it to save and stop."""

    def kill(self) -> None:
        """End it now."""


Start = Callable[[Unit, int], Process]
"""Starts a unit in a slot (0, 1 ... below the number that run at a time)."""


class LocalProcess:
    """A child of this process, in a session of its own: so that Ctrl-C at the terminal reaches it only through this process."""

    def __init__(self, argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.log = log
        with _log(log) as out:
            self._child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env=environment(env or {}),
            )
        self.poll, self.terminate, self.kill = self._child.poll, self._child.terminate, self._child.kill

    def tail(self) -> list[str]:
        """The last lines that it wrote."""
        return last_lines(self.log)


def _log(path: Path) -> IO[bytes]:
    try:
        return opened(path, "ab")
    except OSError as error:
        raise UsageError(f"The log {path} cannot be written ({error.strerror}): choose another --out.") from None


BOUND = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""
"""A program that becomes another one, to which Linux sends SIGTERM when its parent is gone (PR_SET_PDEATHSIG)."""


def bound(argv: Sequence[str]) -> list[str]:
    """The same command, which on Linux gets SIGTERM when this process ends, and so saves and stops; unchanged elsewhere."""
    return [sys.executable, "-P", "-S", "-c", BOUND, str(os.getpid()), *argv] if sys.platform == "linux" else list(argv)


class Elsewhere:
    """A seed that another process trains, left by a `reproduce` that was killed; it is only waited for."""

    def __init__(self, seed: Seed) -> None:
        self._seed = seed

    def poll(self) -> int | None:
        """None while the other process holds the folder; then 0 where there is a result, else 1."""
        return None if held(self._seed) else int(self._seed.run.result is None)

    def tail(self) -> list[str]:
        """The last lines that it wrote."""
        return last_lines(self._seed.log)

    def terminate(self) -> None:
        """Do nothing: it is not this process's child."""

    kill = terminate


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The variables of a child: one thread unless set otherwise, and none of the Ray job that this process belongs to."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_") or k.startswith("RAY_AUTH")}
    return {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"} | kept | dict(extra)


def held(seed: Seed) -> bool:
    """Whether a process holds the lock of the seed's folder."""
    return seed.run.place.held()


def on_machine(width: int, each: int = 0, build: Build = command) -> tuple[Start, int]:
    """Seeds as children of this process: how to start one, and how many at a time this machine can hold.

    Args:
        width: threads that one seed keeps busy.
        each: GPUs that one seed uses, if there are any.
    """
    devices = gpus() if each else []
    slots = max(1, len(os.sched_getaffinity(0)) // width)
    if devices:
        slots = min(slots, max(1, len(devices) // each))

    def start(seed: Unit, slot: int) -> Process:
        return LocalProcess(build(seed), seed.log, visible(devices, each, slot))

    return start, slots


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [d for d in named.split(",") if d.strip()]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]


def visible(devices: Sequence[str], each: int, slot: int) -> dict[str, str]:
    """The variables that give a slot its own GPUs, where there are several."""
    if len(devices) < 2:
        return {}
    first = slot * each % len(devices)
    return {"CUDA_VISIBLE_DEVICES": ",".join(devices[first : first + each])}


def execute(
    seeds: Iterable[Unit],
    start: Start,
    jobs: int,
    tell: Callable[[Seed, str], None],
    pause: float = 0.2,
) -> dict[Seed, str]:
    """Run every seed, at most `jobs` at a time; a failed one does not stop the others.

    Args:
        tell: called with 'running' at each check of a seed, then once with 'finished', 'failed' or 'stopped'.
        pause: seconds between two checks.

    Returns:
        Why each failed seed failed.

    Raises:
        KeyboardInterrupt: Ctrl-C; the children have saved and stopped by then.
        UsageError: another process keeps seeds; all others have ended by then.
    """
    waiting = list(seeds)
    working: dict[int, tuple[Unit, Process]] = {}
    why: dict[Seed, str] = {}
    kept: Counter[Seed] = Counter()
    try:
        while waiting or working:
            for slot in [p for p in range(jobs) if p not in working][: len(waiting)]:
                unit = waiting.pop(0)
                elsewhere = isinstance(unit, Seed) and held(unit)
                working[slot] = (unit, Elsewhere(members(unit)[0]) if elsewhere else start(unit, slot))
            time.sleep(pause)
            for slot, (unit, process) in list(working.items()):
                code = process.poll()
                if code is not None:
                    del working[slot]
                if code is not None and with_another(unit, process):  # which says nothing about the seeds
                    kept.update(left := [seed for seed in members(unit) if seed.run.result is None])
                    waiting += [seed for seed in left if kept[seed] < TRIES]
                    continue
                for seed in members(unit):
                    reason = "" if code is None else failure(seed, code, process.tail())
                    why |= {seed: reason} if reason else {}
                    tell(seed, "running" if code is None else "failed" if seed in why else "finished")
    finally:
        stop([process for _, process in working.values()])
        for seed in (s for unit, _ in working.values() for s in members(unit)):
            tell(seed, "stopped")
    if lost := [str(seed) for seed, tries in kept.items() if tries >= TRIES]:
        raise UsageError(
            f"Another process trains {', '.join(lost)}: nothing was recorded. When it has ended, the same command continues."
        )
    return why


def with_another(unit: Unit, process: Process) -> bool:
    """Whether a unit ended without a result because another process had one of its seeds: before it, or from it."""
    left = [seed for seed in members(unit) if seed.run.result is None]
    refused = any(words in line for line in process.tail()[-1:] for words in (AT_WORK, CONTINUED))
    return bool(left) and (isinstance(process, Elsewhere) or refused or any(map(held, left)))


def failure(seed: Seed, code: int, tail: Sequence[str]) -> str:
    """Why there is no result, or '' where there is one."""
    try:
        if fetch(seed).result is not None:
            return ""
    except UsageError as error:  # its address
        return str(error)
    return "\n".join([f"exit code {code} and no result.json", *tail])


def stop(processes: Sequence[Process], grace: float = GRACE) -> None:
    """Ask all to stop, and wait; kill those that still run after `grace` seconds, or at a second Ctrl-C."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + grace
    mine = [p for p in processes if not isinstance(p, Elsewhere)]
    try:
        while any(p.poll() is None for p in mine) and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        for process in mine:
            if process.poll() is None:
                process.kill()
