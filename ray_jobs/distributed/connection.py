"""Connect to a Ray cluster, or start one on this machine."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ray_jobs.errors import UsageError
from ray_jobs.run.signals import handlers_kept

PATIENCE = 60.0
"""Seconds without news of a group, after which the user gets a note."""
START_LIMIT = 600.0
"""Seconds that workers may take to start: a cluster may have to find a node for them."""
BROKEN = "its connection is broken"
GONE = (
    "The cluster's head is gone, or Ray's processes on this machine are ({}): "
    "on a cluster that is up, 'reprise resume' continues from the last checkpoint."
)
OURS = ("ray_jobs", "lightning_modules", "datamodules", "cluster")
"""Packages that a cluster gets from here."""
OBJECT_STORE = 200_000_000
"""Bytes for objects of a Ray that is started here: fragments and weights are small."""


class Lost(ConnectionError):
    """Processes on a cluster that die too often, or find no free CPU: one sentence says which."""


def cause(error: BaseException) -> str:
    """Why a process died, in a few words, from Ray's error of several lines."""
    text = " ".join(str(error).split())
    if any(sign in text for sign in ("node has died", "node was terminated", "node it was running on is dead")):
        return "its node is gone"
    if "running low on memory" in text:
        return "its node ran out of memory"
    if any(sign in text for sign in ("worker process has died", "Worker exit", "worker died unexpectedly")):
        return "its process ended"
    if any(sign in text for sign in ("is unavailable", "Connection closed by peer", "Connection reset by peer")):
        return BROKEN
    first = text.partition(". ")[0].rstrip(".")
    return f"{type(error).__name__}{': ' * bool(first)}{first[:200]}"


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables inside the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


def cluster_address(address: str | None) -> str | None:
    """The Ray cluster to use: --address, else RAY_ADDRESS; 'local' is this machine whatever RAY_ADDRESS says."""
    address = address or os.environ.get("RAY_ADDRESS")
    return None if address == "local" else address


def connect(address: str | None, cpus: int = 1) -> Any:
    """Ray, connected to the cluster at `address`, which gets our packages; without an address, a Ray of our own on this machine.

    Args:
        address: as `cluster_address` returns it. Nothing happens if this process is already connected.
        cpus: that our work needs of a Ray of our own. It gets one more for Ray's own processes: without, a runner could wait for ever.

    Raises:
        UsageError: no cluster answers there.
    """
    import ray

    if ray.is_initialized():
        return ray
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address:
        _knock(address)
        wanted: dict[str, Any] = {"address": address, "runtime_env": _packages()}
    else:
        room = max(cpus + 1, os.cpu_count() or 1)
        own = {"num_cpus": room, "include_dashboard": False, "object_store_memory": OBJECT_STORE}
        wanted = {"address": "local", "configure_logging": False, **own}
    try:
        with handlers_kept():  # Ray's own would end the process before it has saved
            ray.init(**wanted, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"No Ray cluster answers at {address} ({str(error).splitlines()[0]}): start one, leave --address out, "
            "or, where it asks for a token, export RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH."
        ) from None
    return ray


def _knock(address: str) -> None:
    """Refuse an address where nothing listens: Ray itself would try for minutes."""
    error = _unanswered(address.removeprefix("ray://"), 5)
    if error:
        raise UsageError(f"No Ray cluster answers at {address} ({error}): is it up, and is the port 6379's?")


def _unanswered(address: str, seconds: float) -> OSError | None:
    """Why nothing answers at 'host:port'; None where something does, and for an address of another form, which only Ray understands."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=seconds).close()
        except OSError as error:
            return error
    return None


def _packages() -> dict[str, Any]:
    """The runtime environment that ships our packages; empty inside a Ray job, whose working directory has them already."""
    if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):
        return {}
    return {"py_modules": [str(Path(__file__).parents[2] / p) for p in OURS]}
