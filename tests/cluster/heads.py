"""A real Ray head with a Jobs API, in its own folder and on free ports, ended by its pid."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

PORTS = (
    "port",
    "ray-client-server-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "runtime-env-agent-port",
    "metrics-export-port",
)


@functools.cache
def open_head() -> str:
    """The URL of a head that wants no token; the same one for the whole session."""
    url = start({"RAY_AUTH_MODE": "disabled"})
    deadline = time.monotonic() + 60
    while not _nodes(url):  # the dashboard answers before the node has joined
        assert time.monotonic() < deadline, f"the node of the head at {url} never joined"
        time.sleep(0.1)
    return url


def start(auth: dict[str, str]) -> str:
    """Starts a head with 2 CPU cores and no GPU, to be ended with the session, and returns its dashboard's URL."""
    temp = tempfile.mkdtemp(prefix="rp", dir="/tmp")  # short: Ray puts sockets into it
    taken = _free_ports(len(PORTS) + 1)
    ports = [f"--{name}={port}" for name, port in zip(PORTS, taken, strict=False)]
    fixed = ["--head", "--block", "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", "--num-cpus=2"]
    fixed += ["--num-gpus=0", "--object-store-memory=80000000", f"--temp-dir={temp}", "--disable-usage-stats"]
    line = [str(Path(sys.executable).with_name("ray")), "start", *fixed, f"--dashboard-port={taken[-1]}", *ports]
    env = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")} | auth
    log = (Path(temp) / "head.txt").open("wb")
    head = subprocess.Popen(line, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    atexit.register(_stop, head, temp)
    url = f"http://127.0.0.1:{taken[-1]}"
    _wait_for(url, head)
    return url


def _nodes(url: str) -> int:
    """The nodes that have joined; 0 while the dashboard is still starting, and drops connections or answers in words."""
    try:
        with urllib.request.urlopen(f"{url}/api/v0/nodes", timeout=30) as answer:
            return json.load(answer)["data"]["result"]["num_after_truncation"]
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _wait_for(url: str, head: subprocess.Popen) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and head.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/api/version", timeout=2).close()
            return
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"the Ray head at {url} did not come up")


def _stop(head: subprocess.Popen, temp: str) -> None:
    head.send_signal(signal.SIGTERM)  # it ends the processes that it started
    try:
        head.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(head.pid, signal.SIGKILL)
    shutil.rmtree(temp, ignore_errors=True)


def _free_ports(n: int) -> list[int]:
    held = [socket.socket() for _ in range(n)]
    try:
        for s in held:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in held]
    finally:
        for s in held:
            s.close()
