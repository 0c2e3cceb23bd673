"""Start, watch and stop the processes of a `plan.Cluster`; other Ray clusters of this machine are left alone."""

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
from cluster.ray_clusters.http import ask, bearer, without_proxy
from cluster.ray_clusters.plan import Cluster
from cluster.supervisor import Identity, alive, identity

PATIENCE = 180.0
"""Seconds in which a cluster must be up; it takes about 10 on an idle machine with two cores."""
ATTEMPTS = 3
"""How often to start a node: Ray gives up a node that needs more than 30 s, as on a very busy machine."""
GRACE = 15.0
"""Seconds from SIGTERM to SIGKILL."""
LISTENS = "0A"
"""Linux' code in /proc/net/tcp for a socket that listens."""


def up(cluster: Cluster, *, token: bool = True, patience: float = PATIENCE) -> Cluster:
    """Start all nodes, detached from the terminal, and wait until each has joined.

    Args:
        cluster: the plan.
        token: whether the cluster requires a token.
        patience: seconds in which it must be up.

    Returns:
        The cluster with its processes, as it is recorded.

    Raises:
        LauncherError: the name is taken, or a node did not start; then every process is stopped again.
    """
    _clear_dead(cluster.name)
    cluster = record.claim(cluster, token=token)
    deadline = time.monotonic() + patience
    try:
        for index in range(len(cluster.nodes)):
            cluster = _start_node(cluster, index, deadline)
    except BaseException as error:
        last = last_line(cluster)
        down(cluster)
        if isinstance(error, LauncherError):
            raise LauncherError(f"{error}{f' Its last line: {last}' if last else ''}") from None
        raise
    cluster = replace(cluster, ready=True)
    record.save(cluster)
    return cluster


def down(cluster: Cluster, grace: float = GRACE) -> None:
    """Stop all processes of the cluster and remove its record; SIGTERM, and SIGKILL after the grace period.

    Raises:
        LauncherError: it was started on another machine.
    """
    if cluster.machine != socket.gethostname():
        raise LauncherError(f"The cluster {cluster.name} was started on {cluster.machine}: end it there.")
    leaders = [who for who in cluster.processes if alive(who)]
    for asked in (
        list(reversed(leaders)),
        marked(cluster),
    ):  # workers' nodes before the head, then the processes that are left
        _signal([who for who in asked if alive(who)], signal.SIGTERM)
        _wait_for_end(asked, grace)
    left = [*filter(alive, leaders), *marked(cluster)]
    _signal(left, signal.SIGKILL)
    _wait_for_end(left, grace)
    for folder in (cluster.temp, str(record.folder_of(cluster.name))):
        shutil.rmtree(folder, ignore_errors=True)


def marked(cluster: Cluster, index: int | None = None) -> list[Identity]:
    """Every running process with the mark of the cluster, or of one node; none where the system does not show environments."""
    whole = f"{plan.MARK}={cluster.id}."
    mark = (whole if index is None else f"{whole}{index}\0").encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"\0" + mark in b"\0" + (path / "environ").read_bytes() and (who := identity(int(path.name))):
                found.append(who)
    return [who for who in found if who["pid"] != os.getpid()]


def listening(cluster: Cluster) -> dict[int, str]:
    """The address of each port on which a process of the cluster listens; empty where the system does not show sockets."""
    inodes = {inode for who in marked(cluster) for inode in _sockets(who["pid"])}
    return {port: address for inode, address, port in _listeners() if inode in inodes}


def nodes(cluster: Cluster) -> list[dict[str, Any]]:
    """Each living node, as the cluster reports it.

    Raises:
        LauncherError: it does not answer.
    """
    answer = ask(cluster.url, "/api/v0/nodes?limit=10000&detail=1", timeout=10, headers=_headers(cluster))
    return [node for node in answer["data"]["result"]["result"] if node["state"] == "ALIVE"]


def jobs(cluster: Cluster) -> list[dict[str, Any]]:
    """Each job that was submitted to the cluster.

    Raises:
        LauncherError: it does not answer.
    """
    answer = ask(cluster.url, "/api/jobs/", timeout=10, headers=_headers(cluster))
    return [job for job in answer if job.get("submission_id")]


def last_line(cluster: Cluster) -> str:
    """The last line of the newest node's log; '' where it is empty."""
    paths = sorted(record.folder_of(cluster.name).glob("node-*.log"))
    lines = paths[-1].read_text(errors="replace").splitlines() if paths else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _start(cluster: Cluster, index: int) -> Identity:
    own = {k: v for k, v in os.environ.items() if not plan.foreign(k)}
    env = own | plan.start_env(cluster, index) | (without_proxy() if cluster.local else {})
    line = plan.start_line(cluster, index)
    with (record.folder_of(cluster.name) / f"node-{index}.log").open("wb") as log:
        child = subprocess.Popen(
            line, env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    who = identity(child.pid)
    if who is None:
        raise LauncherError(f"Node {index} of the cluster {cluster.name} ended at once.")
    return who


def _start_node(cluster: Cluster, index: int, deadline: float) -> Cluster:
    """Start a node, and wait until it has joined; try again where it ends."""
    for _ in range(ATTEMPTS):
        started = replace(cluster, processes=(*cluster.processes, _start(cluster, index)))
        record.save(started)
        if _joined(started, deadline):
            return started
        left = marked(cluster, index)
        _signal(left, signal.SIGKILL)
        _wait_for_end(left, GRACE)
    raise LauncherError(f"Node {index} of the cluster {cluster.name} ended while it was started.")


def _joined(cluster: Cluster, deadline: float) -> bool:
    """Wait for the newest node: True when it has joined, False when it has ended before.

    Raises:
        LauncherError: neither happened in time.
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
    """Remove what is left of a cluster whose nodes have all ended, as after the machine went down."""
    with contextlib.suppress(LauncherError):
        old = record.load(name)
        owners = [who for who in (*old.processes, None if old.ready else old.starter) if who]
        if old.machine == socket.gethostname() and not any(map(alive, owners)) and not marked(old):
            down(old)


def _signal(processes: list[Identity], number: signal.Signals) -> None:
    for who in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(who["pid"], number)


def _wait_for_end(processes: list[Identity], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(map(alive, processes)) and time.monotonic() < deadline:
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
    """An address of /proc/net/tcp (groups of four bytes in reverse order) in the usual notation."""
    raw = b"".join(bytes.fromhex(packed[i : i + 8])[::-1] for i in range(0, len(packed), 8))
    return socket.inet_ntop(family, raw).removeprefix("::ffff:")
