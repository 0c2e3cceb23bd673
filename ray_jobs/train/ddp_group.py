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
        reader = threading.Thread(target=_read, args=(workers[0], report, said), daemon=True)
        reader.start()
        _watch(workers, should_stop)
        reader.join(timeout=5)
    if "usage" in said:
        raise UsageError(said["usage"])
    if "error" in said:
        raise Failed(said["error"])
    codes = [w.returncode for w in workers]
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
    command = [sys.executable, "-m", "ray_jobs.train.ddp_worker", str(run.path), run.uri or ""]
    workers = []
    with opened(run.path / "log.txt", "a") as log:
        for rank in range(spec.where.workers):
            out = subprocess.PIPE if rank == 0 else log
            env = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            workers.append(
                subprocess.Popen(
                    command, env=env, stdin=subprocess.PIPE, stdout=out, stderr=log, text=True, start_new_session=True
                )
            )
    try:
        yield workers
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()


def _read(first: subprocess.Popen, report: Report, said: dict[str, str]) -> None:
    for line in first.stdout or ():
        with contextlib.suppress(json.JSONDecodeError):
            event = json.loads(line)
            said.update({k: event[k] for k in ("usage", "error", "outcome") if k in event})
            report(event)


def _watch(workers: list[subprocess.Popen], should_stop: Callable[[], bool]) -> None:
    """Wait for all workers; pass a request to stop on, once; after a failure the others have GRACE seconds to end."""
    asked, deadline = False, float("inf")
    while any(w.poll() is None for w in workers) and time.monotonic() < deadline:
        if should_stop() and not asked:
            asked = True
            for worker in workers:
                worker.send_signal(signal.SIGTERM)
        if deadline == float("inf") and any(w.returncode for w in workers):
            deadline = time.monotonic() + GRACE
        with contextlib.suppress(subprocess.TimeoutExpired):
            next(w for w in workers if w.poll() is None).wait(timeout=0.1) if any(
                w.poll() is None for w in workers
            ) else None


def _last_line(run: Run) -> str:
    return next(iter(last_lines(run.path / "log.txt", 1)), "it said nothing").strip()
