"""A Ray cluster of processes on this machine: what is started, with which variables and ports. Pure, but for asking which ports are free.

Everything listens on the loopback address alone unless another is asked for, and the cluster wants a token. By itself
Ray takes 127.0.0.1 for a wish to be reached and replaces it by the machine's address, on which, and on all others, its
parts then listen. `BEGIN` starts `ray` without this replacement, and `client_env` tells drivers the same.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import secrets
import shlex
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.job import LauncherError
from cluster.supervisor import Identity, alive

LOOPBACK = "127.0.0.1"
MARK = "REPRISE_CLUSTER_ID"
"""A variable that every process of a cluster inherits, jobs and workers too: by it they are told from all others."""
HEAD_PORTS = ("port", "dashboard-port", "ray-client-server-port")
NODE_PORTS = (
    "node-manager-port",
    "object-manager-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "runtime-env-agent-port",
    "metrics-export-port",
)
BEGIN = """\
import sys
from ray._private import ray_constants, services
services.resolve_ip_for_localhost = str
ray_constants.ENABLE_RAY_CLUSTER = True
from ray.scripts.scripts import main
sys.exit(main())
"""
"""`ray`, which takes 127.0.0.1 by its word and lets several nodes share it."""


@dataclass(frozen=True)
class Node:
    """What one node is said to have, and the ports that its parts listen on."""

    cpus: float
    gpus: float | None = 0
    """None lets Ray count them."""
    memory: int = 0
    """Bytes; 0 lets Ray measure."""
    resources: Mapping[str, float] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    devices: str | None = None
    """CUDA_VISIBLE_DEVICES, where nodes share the machine's GPUs."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that was started here; the first node is the head."""

    name: str
    nodes: tuple[Node, ...]
    host: str = LOOPBACK
    token: str = ""
    """File that holds the token; '' where the cluster wants none."""
    temp: str = ""
    """Folder around each node's sockets and logs, which Ray itself opens to all users; its path is short, for a socket's may
    have 107 characters."""
    object_store: int = 0
    """Bytes of each node for shared objects; 0 lets Ray choose."""
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    machine: str = field(default_factory=socket.gethostname)
    created: float = field(default_factory=time.time)
    """Seconds since 1970."""
    processes: tuple[Identity, ...] = ()
    """Each node's first one, in the nodes' order."""
    starter: Identity | None = None
    """Whoever starts it."""
    ready: bool = False

    @property
    def url(self) -> str:
        """Of the dashboard."""
        return f"http://{bracket(self.host)}:{self.nodes[0].ports['dashboard-port']}"

    @property
    def address(self) -> str:
        """For `ray.init` and `ray start --address`."""
        return f"{bracket(self.host)}:{self.nodes[0].ports['port']}"

    @property
    def local(self) -> bool:
        """Whether nothing but this machine can reach it."""
        return self.host == LOOPBACK

    @property
    def lives(self) -> bool:
        """Whether all nodes' first processes run."""
        return bool(self.processes) and all(alive(who) for who in self.processes)


def plan(
    name: str, nodes: int, cpus: float, gpus: float | None, memory: int, resources: Mapping[str, float], host: str
) -> Cluster:
    """A cluster of equal nodes on free ports.

    Raises:
        LauncherError: a name, number, resource or address that cannot be.
    """
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", name):
        raise LauncherError(f"{name!r} cannot name a cluster: use 1 to 32 of a-z, 0-9 and '-'.")
    if nodes < 1:
        raise LauncherError(f"A cluster has at least 1 node, its head, and not {nodes}.")
    sizes = {"--cpus": cpus, "--gpus": gpus or 0, "--memory": memory} | dict(resources)
    for key, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int | float) or not 0 <= size < float("inf"):
            raise LauncherError(f"{key} must be a number from 0 on, not {size!r}.")
    if taken := {"CPU", "GPU", "memory", "object_store_memory"} & set(resources):
        raise LauncherError(f"--resources names what has an option of its own ({', '.join(sorted(taken))}): use that.")
    _own_address(host)
    names = [HEAD_PORTS + NODE_PORTS, *[NODE_PORTS] * (nodes - 1)]
    free = iter(free_ports(sum(map(len, names)), host))
    shares = devices(os.environ.get("CUDA_VISIBLE_DEVICES"), nodes, gpus)
    made = [
        Node(cpus, gpus, memory, dict(resources), {port: next(free) for port in ports}, share)
        for ports, share in zip(names, shares, strict=True)
    ]
    return Cluster(name, tuple(made), host)


def devices(visible: str | None, nodes: int, gpus: float | None) -> list[str | None]:
    """CUDA_VISIBLE_DEVICES of each node, so that no two nodes of one machine get the same GPU; None leaves it as it is.

    Raises:
        LauncherError: fewer are visible than the nodes would share.
    """
    if not gpus or nodes == 1:
        return [None] * nodes
    if gpus != int(gpus):
        raise LauncherError(f"Nodes of one machine share whole GPUs, and --gpus is {gpus:g}.")
    each = int(gpus)
    there = [str(i) for i in range(nodes * each)] if visible is None else [d for d in visible.split(",") if d.strip()]
    if len(there) < nodes * each:
        raise LauncherError(f"{nodes} nodes of {each} GPUs need {nodes * each}; CUDA_VISIBLE_DEVICES has {len(there)}.")
    return [",".join(there[i * each : (i + 1) * each]) for i in range(nodes)]


def start_line(cluster: Cluster, index: int) -> list[str]:
    """The command that starts one node and stays as its first process."""
    node = cluster.nodes[index]
    given = {"node-ip-address": cluster.host, "num-cpus": f"{node.cpus:g}"}
    given |= {} if node.gpus is None else {"num-gpus": f"{node.gpus:g}"}
    given |= {"memory": str(node.memory)} if node.memory else {}
    given |= {"object-store-memory": str(cluster.object_store)} if cluster.object_store else {}
    given |= {"resources": json.dumps(dict(node.resources))} if node.resources else {}
    given |= {"min-worker-port": "0", "max-worker-port": "0"}  # any that is free: nodes share an address
    given |= {name: str(port) for name, port in node.ports.items()}
    if index == 0:
        place = ["--head", f"--dashboard-host={cluster.host}"]
    else:
        place = [f"--address={cluster.address}"]
    place.append(
        f"--temp-dir={cluster.temp}/{index}"
    )  # shared, a node would delete working directories that another uses
    options = [f"--{name}={value}" for name, value in given.items()]
    return [sys.executable, "-c", BEGIN, "start", "--block", "--disable-usage-stats", *place, *options]


def start_env(cluster: Cluster, index: int) -> dict[str, str]:
    """The variables that a node's processes get beside this process's own, of which `foreign` are left out."""
    share = cluster.nodes[index].devices
    told = {MARK: f"{cluster.id}.{index}", "SPT_NOENV": "1"}  # else a process that renames itself overwrites the mark
    told |= {"RAY_AUTH_MODE": "disabled"} if not cluster.token else {}
    return client_env(cluster) | told | ({} if share is None else {"CUDA_VISIBLE_DEVICES": share})


def client_env(cluster: Cluster) -> dict[str, str]:
    """The variables by which a program of this machine reaches the cluster with `ray.init`."""
    local = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"} if cluster.local else {}
    return local | ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": cluster.token} if cluster.token else {})


def foreign(name: str) -> bool:
    """Whether a variable is about another cluster or job, and must not reach the nodes."""
    return name.startswith("RAY_AUTH") or name in (
        "RAY_ADDRESS",
        "RAY_API_SERVER_ADDRESS",
        "RAY_JOB_CONFIG_JSON_ENV_VAR",
        MARK,
    )


def exports(cluster: Cluster) -> str:
    """Lines for a shell."""
    told = {"RAY_ADDRESS": cluster.address} | client_env(cluster)
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in told.items())


def free_ports(n: int, host: str = LOOPBACK) -> list[int]:
    """Ports of `host` that nobody listens on now."""
    held = [socket.socket(_family(host)) for _ in range(n)]
    try:
        for s in held:
            s.bind((host, 0))
        return [s.getsockname()[1] for s in held]
    finally:
        for s in held:
            s.close()


def _own_address(host: str) -> None:
    try:
        if ipaddress.ip_address(host).is_unspecified:
            raise ValueError("it names every network")
        socket.socket(_family(host)).bind((host, 0))
    except (OSError, ValueError) as error:
        raise LauncherError(f"--host must be one of this machine's IP addresses, not {host!r} ({error}).") from None


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def bracket(host: str) -> str:
    """A host as it stands before a port."""
    return f"[{host}]" if ":" in host else host
