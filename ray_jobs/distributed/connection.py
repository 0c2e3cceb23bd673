"""Connect to a Ray cluster, or start one on this machine."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cluster.ray_clusters.http import is_loopback, without_proxy
from cluster.trust import ADDRESSES, knows
from ray_jobs.errors import UsageError, printable
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
    """The Ray cluster to use: --address, else RAY_ADDRESS; 'local' is this machine whatever RAY_ADDRESS says.

    Raises:
        UsageError: it has another form than an address of Ray, or is that of a dashboard.
    """
    given = "--address" if address is not None else "RAY_ADDRESS"
    address = address if address is not None else os.environ.get("RAY_ADDRESS", "").strip() or None
    if address is None or address == "local":
        return None
    if re.match(r"https?://", address):
        raise UsageError(
            f"{given} {address} is a dashboard's address, which takes jobs (`reprise submit --on ray`): give Ray's own, HOST:6379 or "
            'ray://HOST:10001; for a cluster of `reprise cluster up`, `eval "$(reprise cluster env)"` sets it.'
        )
    if not address or not address.isprintable() or " " in address:
        raise UsageError(
            f"{given} takes 'auto', 'local', HOST:6379 or ray://HOST:10001, without blanks, not {address!r}."
        )
    return address


def refuse_unknown(address: str | None) -> None:
    """Refuse the address of a cluster that a run folder names and this user never gave: the cluster would get their code and token.

    Raises:
        UsageError: it is such an address.
    """
    if address not in (None, "local", os.environ.get("RAY_ADDRESS")) and not knows(address, ADDRESSES):
        raise UsageError(
            f"The run names the Ray cluster {printable(address)}, and you never gave this address here: where you trust it, give "
            "--address yourself ('local' is this machine alone)."
        )


def connect(address: str | None, cpus: int = 1) -> Any:
    """Ray, connected to the cluster at `address`, which gets our packages; without an address, a Ray of our own on this machine.

    Args:
        address: as `cluster_address` returns it. A process that is already connected stays with the cluster that it has.
        cpus: that our work needs of a Ray of our own. It gets one more for Ray's own processes: without, a runner could wait for ever.

    Raises:
        UsageError: no cluster answers there.
    """
    import ray

    if address:
        _knock(address)
    if ray.is_initialized():
        return ray
    if not address or is_loopback(address.removeprefix("ray://").rpartition(":")[0]):
        os.environ.update(without_proxy())  # Ray's gRPC would ask the proxy for this machine, too
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address:
        wanted: dict[str, Any] = {"address": address, "runtime_env": _packages(), "job_config": _job_config()}
    else:
        room = max(cpus + 1, os.cpu_count() or 1)
        own = {"num_cpus": room, "include_dashboard": False, "object_store_memory": OBJECT_STORE}
        wanted = {"address": "local", "configure_logging": False, "job_config": _job_config(), **own}
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


class _Fixed(list[str]):
    """A list that Ray cannot extend."""

    def extend(self, _: Any) -> None:
        """Do nothing: Ray would add the current folder, and its workers would import from it."""


def _job_config() -> Any:
    """Ray's configuration of our job: its workers import from the folders of PYTHONPATH and not from the current one.

    Seen: Ray 2.60, whose `ray.init` extends `JobConfig._py_driver_sys_path` by the current folder.
    """
    from ray.job_config import JobConfig

    config = JobConfig()
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    config._py_driver_sys_path = _Fixed(os.path.abspath(path) for path in named if path)
    return config


def _packages() -> dict[str, Any]:
    """The runtime environment that ships our packages; empty inside a Ray job, whose working directory has them already."""
    if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):
        return {}
    return {"py_modules": [str(Path(__file__).parents[2] / p) for p in OURS]}
