"""A group of workers is watched from its first moment: a dead worker is noticed, a stopped one is named."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ray_jobs.train.groups import ddp_group
from tests.ray_jobs.command import start

ALIVE = "import time\nwhile True: print('{\"alive\": true}', flush=True); time.sleep(0.05)"
SOON = 60


@contextlib.contextmanager
def group(*programs):
    """Processes of these Python programs."""
    workers = [
        subprocess.Popen([sys.executable, "-P", "-S", "-c", text], stdout=subprocess.PIPE, text=True)
        for text in programs
    ]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def watched(workers, events, stop):
    """The watch over processes in a thread: its codes are appended to the list that is returned."""
    pulse, codes = ddp_group.Pulse(len(workers), events.append), []
    for rank, worker in enumerate(workers):
        reading = (worker, rank, events.append, {}, pulse)
        threading.Thread(target=ddp_group._read, args=reading, daemon=True).start()
    watch = threading.Thread(target=lambda: codes.extend(ddp_group._watch(workers, stop.is_set, pulse)), daemon=True)
    watch.start()
    return watch, codes


def until(what):
    deadline = time.monotonic() + SOON
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("dead", [0, 1, 2])
def test_any_worker_that_dies_is_noticed(dead, monkeypatch):
    monkeypatch.setattr(ddp_group, "GRACE", 0.2)
    with group(ALIVE, ALIVE, ALIVE) as workers:
        watch, codes = watched(workers, [], threading.Event())
        workers[dead].kill()
        watch.join(SOON)
        assert codes == [-signal.SIGKILL if rank == dead else 0 for rank in range(3)]


def test_a_stopped_worker_is_named_once_and_again_when_it_is_heard(monkeypatch):
    monkeypatch.setattr(ddp_group, "SILENCE", 2.0)
    events, stop = [], threading.Event()
    with group(ALIVE, ALIVE) as workers:
        watch, codes = watched(workers, events, stop)
        os.kill(workers[1].pid, signal.SIGSTOP)
        until(lambda: any("worker 1 has been silent for 2 s" in e["note"] for e in events))
        os.kill(workers[1].pid, signal.SIGCONT)
        until(lambda: any("worker 1 is heard again" in e["note"] for e in events))
        assert sum("worker 1 has been silent" in e["note"] for e in events) == 1
        os.kill(workers[1].pid, signal.SIGSTOP)
        stop.set()  # a stopped worker hears the request to stop all the same
        watch.join(SOON)
        assert codes == [-signal.SIGTERM] * 2
        assert all("alive" not in event for event in events)


DIGITS = ("train", "ddpm_digits", "--steps", 4, "--width", 16, "--levels", 25, "--workers", 2)


def second_worker(driver: subprocess.Popen) -> int:
    """The pid of worker 1, as soon as it is there."""
    found: list[int] = []

    def look():
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                here = (path / "environ").read_bytes()
                parent = (path / "stat").read_text().rpartition(")")[2].split()[1]
                if parent == str(driver.pid) and b"\0LOCAL_RANK=1\0" in here:
                    found.append(int(path.name))
        return found

    until(look)
    return found[0]


@pytest.mark.slow
def test_a_worker_that_is_killed_while_it_starts_is_replaced(tmp_path):
    with start(*DIGITS, "--out", tmp_path / "run") as process:
        os.kill(second_worker(process), signal.SIGKILL)
        out, err = process.communicate(timeout=400)
    assert process.returncode == 0, out + err
    assert "a worker died; the group restarts" in (tmp_path / "run/log.txt").read_text()


@pytest.mark.slow
def test_a_worker_that_is_stopped_while_it_starts_is_named(tmp_path):
    log = tmp_path / "run/log.txt"
    with start(*DIGITS, "--out", tmp_path / "run") as process:
        pid = second_worker(process)
        os.kill(pid, signal.SIGSTOP)
        until(lambda: "worker 1 has been silent" in log.read_text())
        os.kill(pid, signal.SIGCONT)
        process.communicate(timeout=400)
    assert process.returncode == 0
    assert (tmp_path / "run/result.json").exists()
