"""Starting, watching and ending the processes of a `ray_cluster.Cluster`: these, and no other Ray's of this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster.job import LauncherError
from cluster.ray_clusters import plan, record
from cluster.ray_clusters.http import ask, bearer
from cluster.ray_clusters.plan import Cluster
from cluster.supervisor import Identity, alive, identity

PATIENCE = 180.0
"""Seconds in which a cluster must be up: some 10 on an idle machine of two cores."""
ATTEMPTS = 3
"""Times that a node is started: Ray gives up one that needs more than 30 s, as on a machine that is very busy."""
GRACE = 15.0
"""Seconds from SIGTERM to SIGKILL."""
LISTENS = "0A"
"""How Linux writes down that a socket listens."""


def up(cluster: Cluster, *, token: bool = True, patience: float = PATIENCE) -> Cluster:
    """Starts all nodes, detached from the terminal, and waits until each has joined.

    Raises:
        LauncherError: the name is taken, or a node did not come up; then nothing of it is left.
    """
    _clear_dead(cluster.name)
    cluster = record.claim(cluster, token=token)
    deadline = time.monotonic() + patience
    try:
        for index in range(len(cluster.nodes)):
            cluster = _bring(cluster, index, deadline)
    except BaseException as error:
        told = last_line(cluster)
        down(cluster)
        if isinstance(error, LauncherError):
            raise LauncherError(f"{error}{f' It said: {told}' if told else ''}") from None
        raise
    cluster = replace(cluster, ready=True)
    record.save(cluster)
    return cluster


def down(cluster: Cluster, grace: float = GRACE) -> None:
    """Ends all processes of the cluster and removes its record; SIGTERM, and SIGKILL after the grace period.

    Raises:
        LauncherError: it was started on another machine.
    """
    if cluster.machine != socket.gethostname():
        raise LauncherError(f"The cluster {cluster.name} was started on {cluster.machine}: end it there.")
    leaders = [who for who in cluster.processes if alive(who)]
    for asked in (list(reversed(leaders)), marked(cluster)):  # workers' nodes before the head, then who outlived them
        _signal([who for who in asked if alive(who)], signal.SIGTERM)
        _gone(asked, grace)
    left = [*filter(alive, leaders), *marked(cluster)]
    _signal(left, signal.SIGKILL)
    _gone(left, grace)
    for folder in (cluster.temp, str(record.folder_of(cluster.name))):
        shutil.rmtree(folder, ignore_errors=True)


def marked(cluster: Cluster, index: int | None = None) -> list[Identity]:
    """Every living process with the mark of the cluster, or of one node; none where the system does not show it."""
    whole = f"{plan.MARK}={cluster.id}."
    mark = (whole if index is None else f"{whole}{index}\0").encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"\0" + mark in b"\0" + (path / "environ").read_bytes() and (who := identity(int(path.name))):
                found.append(who)
    return [who for who in found if who["pid"] != os.getpid()]


def listening(cluster: Cluster) -> dict[int, str]:
    """The address of each port that a process of the cluster listens on; empty where the system does not show it."""
    inodes = {inode for who in marked(cluster) for inode in _sockets(who["pid"])}
    return {port: address for inode, address, port in _listeners() if inode in inodes}


def nodes(cluster: Cluster) -> list[dict[str, Any]]:
    """Each living node as the cluster knows it.

    Raises:
        LauncherError: it does not answer.
    """
    told = ask(cluster.url, "/api/v0/nodes?limit=10000&detail=1", timeout=10, headers=_headers(cluster))
    return [node for node in told["data"]["result"]["result"] if node["state"] == "ALIVE"]


def jobs(cluster: Cluster) -> list[dict[str, Any]]:
    """Each job that was submitted to the cluster.

    Raises:
        LauncherError: it does not answer.
    """
    told = ask(cluster.url, "/api/jobs/", timeout=10, headers=_headers(cluster))
    return [job for job in told if job.get("submission_id")]


def last_line(cluster: Cluster) -> str:
    """The last thing that the newest node said."""
    paths = sorted(record.folder_of(cluster.name).glob("node-*.log"))
    lines = paths[-1].read_text(errors="replace").splitlines() if paths else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _start(cluster: Cluster, index: int) -> Identity:
    own = {k: v for k, v in os.environ.items() if not plan.foreign(k)}
    env = own | plan.start_env(cluster, index)
    line = plan.start_line(cluster, index)
    with (record.folder_of(cluster.name) / f"node-{index}.log").open("wb") as log:
        child = subprocess.Popen(
            line, env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    who = identity(child.pid)
    if who is None:
        raise LauncherError(f"Node {index} of the cluster {cluster.name} ended at once.")
    return who


def _bring(cluster: Cluster, index: int, deadline: float) -> Cluster:
    """Starts a node, and waits until it has joined."""
    for _ in range(ATTEMPTS):
        started = replace(cluster, processes=(*cluster.processes, _start(cluster, index)))
        record.save(started)
        if _joined(started, deadline):
            return started
        left = marked(cluster, index)
        _signal(left, signal.SIGKILL)
        _gone(left, GRACE)
    raise LauncherError(f"Node {index} of the cluster {cluster.name} ended while it was started.")


def _joined(cluster: Cluster, deadline: float) -> bool:
    """Whether the newest node has joined, or has ended before it could.

    Raises:
        LauncherError: neither was seen in time.
    """
    while time.monotonic() < deadline:
        if not alive(cluster.processes[-1]):
            return False
        with contextlib.suppress(LauncherError, KeyError, TypeError):
            if len(nodes(cluster)) >= len(cluster.processes):
                return True
        time.sleep(0.2)
    raise LauncherError(f"The cluster {cluster.name} was not up in time: is the machine very busy?")


def _clear_dead(name: str) -> None:
    """What is left of a cluster whose nodes have all ended, as after the machine went down."""
    with contextlib.suppress(LauncherError):
        old = record.load(name)
        owners = [who for who in (*old.processes, None if old.ready else old.starter) if who]
        if old.machine == socket.gethostname() and not any(map(alive, owners)) and not marked(old):
            down(old)


def _signal(whom: list[Identity], number: signal.Signals) -> None:
    for who in whom:
        with contextlib.suppress(ProcessLookupError):
            os.kill(who["pid"], number)


def _gone(whom: list[Identity], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(map(alive, whom)) and time.monotonic() < deadline:
        time.sleep(0.05)


def _headers(cluster: Cluster) -> dict[str, str]:
    return bearer(Path(cluster.token).read_text().strip()) if cluster.token else {}


def _sockets(pid: int) -> Iterator[str]:
    """The inodes of a process's sockets."""
    for path in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            target = os.readlink(path)
            if target.startswith("socket:["):
                yield target[8:-1]


def _listeners() -> Iterator[tuple[str, str, int]]:
    """Inode, address and port of every TCP socket of this machine that listens."""
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == LISTENS:
                    packed, port = words[1].split(":")
                    yield words[9], _address(packed, family), int(port, 16)


def _address(packed: str, family: socket.AddressFamily) -> str:
    """An address as Linux writes it, in words of four bytes that are turned round, as people write it."""
    raw = b"".join(bytes.fromhex(packed[i : i + 8])[::-1] for i in range(0, len(packed), 8))
    return socket.inet_ntop(family, raw).removeprefix("::ffff:")
