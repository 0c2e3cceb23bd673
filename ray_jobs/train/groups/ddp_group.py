"""A group of worker processes on this machine: started together, watched, and started again from the last checkpoint when one dies.

The driver imports no torch; each worker imports it once, all at the same time, and then runs Lightning's own DDP. A worker that
loses its driver ends, so a killed driver leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

from ray_jobs.errors import Failed, UsageError
from ray_jobs.recipe.spec import Spec
from ray_jobs.run.files import last_lines, opened
from ray_jobs.run.folder import Run
from ray_jobs.run.progress import Report

GRACE = 10.0
"""Seconds that the others have to end by themselves after one worker died."""
SILENCE = 10.0
"""Seconds without a sign of life of a worker, which sends one each second, after which the user gets a note."""


def free_port() -> int:
    """A port of the loopback interface that nobody uses now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def train(run: Run, spec: Spec, report: Report, should_stop: Callable[[], bool]) -> bool:
    """Run `spec.where.workers` workers until they are done, restarting the group at most `max_failures` times.

    Returns:
        whether training reached its end; False where it was stopped.

    Raises:
        Failed, UsageError: it cannot continue.
    """
    for attempt in range(spec.where.max_failures + 1):
        outcome = _attempt(run, spec, report, should_stop)
        if outcome is not None:
            return outcome
        allowed = f"failure {attempt + 1} of {spec.where.max_failures} allowed"
        report({"note": f"a worker died; the group restarts from its last checkpoint ({allowed})"})
    raise Failed(
        f"A worker died {spec.where.max_failures + 1} times, more often than --max_failures allows; "
        f"{run.path / 'log.txt'} says more."
    )


def _attempt(run: Run, spec: Spec, report: Report, should_stop: Callable[[], bool]) -> bool | None:
    """Run the group once; None where a worker was killed and the group may be started again."""
    said: dict[str, str] = {}
    with _started(run, spec) as workers:
        pulse = Pulse(len(workers), report)
        readers = [
            threading.Thread(target=_read, args=(worker, rank, report, said, pulse), daemon=True)
            for rank, worker in enumerate(workers)
        ]
        for reader in readers:
            reader.start()
        codes = _watch(workers, should_stop, pulse)
        readers[0].join(timeout=5)
    if "usage" in said:
        raise UsageError(said["usage"])
    if "error" in said:
        raise Failed(said["error"])
    if any(code < 0 for code in codes):
        return None
    if any(codes):
        raise Failed(
            f"A worker ended with exit code {max(codes)}: {_last_line(run)} ({run.path / 'log.txt'} says more.)"
        )
    return said.get("outcome") == "finished"


@contextlib.contextmanager
def _started(run: Run, spec: Spec) -> Iterator[list[subprocess.Popen]]:
    threads = str(spec.where.threads)
    shared = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "NODE_RANK": "0",
        "WORLD_SIZE": str(spec.where.workers),
    }
    command = [sys.executable, "-P", "-m", "ray_jobs.train.groups.ddp_worker", str(run.path), run.uri or ""]
    workers = []
    with opened(run.path / "log.txt", "a") as log:
        for rank in range(spec.where.workers):
            env = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            workers.append(
                subprocess.Popen(
                    command,
                    env=env,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    start_new_session=True,
                )
            )
    try:
        yield workers
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()


class Pulse:
    """When each worker last sent a sign of life, and notes about those that are silent.

    Args:
        workers: how many there are.
        report: gets the notes.
    """

    def __init__(self, workers: int, report: Report) -> None:
        self.report = report
        self.heard = [time.monotonic()] * workers
        self._silent: set[int] = set()

    def check(self, running: list[int]) -> None:
        """Report each of the running workers that has fallen silent, and each that is heard again, once.

        Args:
            running: their ranks.
        """
        now = time.monotonic()
        silent = {rank for rank in running if now - self.heard[rank] > SILENCE}
        for rank in sorted(silent - self._silent):
            why = "it is stopped, or this machine is very busy"
            self.report({"note": f"worker {rank} has been silent for {SILENCE:.0f} s ({why}); the others wait for it"})
        for rank in sorted((self._silent - silent) & set(running)):
            self.report({"note": f"worker {rank} is heard again"})
        self._silent = silent


def _read(worker: subprocess.Popen, rank: int, report: Report, said: dict[str, str], pulse: Pulse) -> None:
    """Read a worker's events until it ends; all but its signs of life are reported."""
    for line in worker.stdout or ():
        pulse.heard[rank] = time.monotonic()
        with contextlib.suppress(json.JSONDecodeError):
            event = json.loads(line)
            said.update({k: event[k] for k in ("usage", "error", "outcome") if k in event})
            if "alive" not in event:
                report(event)


def _watch(workers: list[subprocess.Popen], should_stop: Callable[[], bool], pulse: Pulse) -> list[int]:
    """Wait for all workers; pass a request to stop on, once; after a failure the others have GRACE seconds to end.

    Returns:
        the exit codes; 0 for a worker that still runs, which had no failure of its own.
    """
    asked, deadline = False, float("inf")
    while True:
        codes = [
            worker.poll() for worker in workers
        ]  # of all: a worker that nobody asks about is never seen to be dead
        if None not in codes or time.monotonic() > deadline:
            return [code or 0 for code in codes]
        if should_stop() and not asked:
            asked = True
            for worker in workers:
                worker.send_signal(signal.SIGTERM)
                worker.send_signal(signal.SIGCONT)  # a stopped worker would not hear it
        if deadline == float("inf") and any(codes):
            deadline = time.monotonic() + GRACE
        pulse.check([rank for rank, code in enumerate(codes) if code is None])
        with contextlib.suppress(subprocess.TimeoutExpired):
            workers[codes.index(None)].wait(timeout=0.1)


def _last_line(run: Run) -> str:
    return next(iter(last_lines(run.path / "log.txt", 1)), "it said nothing").strip()
