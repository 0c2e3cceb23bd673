"""The plan of a Ray cluster of processes on this machine: commands, variables and ports. Pure, except for finding free ports.

Everything listens on the loopback address only, unless another one is given, and the cluster requires a token. Ray itself
replaces 127.0.0.1 by the machine's address, and its parts then listen on every address. `BEGIN` starts `ray` without this
replacement, and `client_env` switches it off for drivers.
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
"""Variable that every process of a cluster inherits, jobs and workers too; it distinguishes them from all others."""
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
"""Program that runs `ray` without replacing 127.0.0.1, and lets several nodes share that address."""


@dataclass(frozen=True)
class Node:
    """The resources that one node reports, and the ports on which its parts listen."""

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
    """A cluster of this machine; the first node is the head."""

    name: str
    nodes: tuple[Node, ...]
    host: str = LOOPBACK
    token: str = ""
    """File that holds the token; '' where the cluster requires none."""
    temp: str = ""
    """Folder for each node's sockets and logs, which Ray itself opens to all users; its path is short, for that of a socket has
    at most 107 characters."""
    object_store: int = 0
    """Bytes of each node for shared objects; 0 lets Ray choose."""
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    machine: str = field(default_factory=socket.gethostname)
    created: float = field(default_factory=time.time)
    """Seconds since 1970."""
    processes: tuple[Identity, ...] = ()
    """The first process of each node, in the order of `nodes`."""
    starter: Identity | None = None
    """The process that starts the cluster."""
    ready: bool = False

    @property
    def url(self) -> str:
        """URL of the dashboard."""
        return f"http://{bracket(self.host)}:{self.nodes[0].ports['dashboard-port']}"

    @property
    def address(self) -> str:
        """Address for `ray.init` and `ray start --address`."""
        return f"{bracket(self.host)}:{self.nodes[0].ports['port']}"

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the cluster."""
        return self.host == LOOPBACK

    @property
    def lives(self) -> bool:
        """Whether the first processes of all nodes run."""
        return bool(self.processes) and all(alive(who) for who in self.processes)


def plan_cluster(
    name: str, nodes: int, cpus: float, gpus: float | None, memory: int, resources: Mapping[str, float], host: str
) -> Cluster:
    """A cluster of equal nodes on free ports.

    Args:
        name: of the cluster.
        nodes: how many, including the head.
        cpus: cores of each node.
        gpus: GPUs of each node; None lets Ray count them.
        memory: bytes of each node; 0 lets Ray measure.
        resources: further resources of each node.
        host: this machine's address to listen on.

    Raises:
        LauncherError: a name, number, resource or address is invalid.
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
    """CUDA_VISIBLE_DEVICES of each node, so that no two nodes of one machine share a GPU; None leaves it unchanged.

    Raises:
        LauncherError: fewer GPUs are visible than the nodes need.
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
    """The command that starts one node and runs as its first process."""
    node = cluster.nodes[index]
    given = {"node-ip-address": cluster.host, "num-cpus": f"{node.cpus:g}"}
    given |= {} if node.gpus is None else {"num-gpus": f"{node.gpus:g}"}
    given |= {"memory": str(node.memory)} if node.memory else {}
    given |= {"object-store-memory": str(cluster.object_store)} if cluster.object_store else {}
    given |= {"resources": json.dumps(dict(node.resources))} if node.resources else {}
    given |= {"min-worker-port": "0", "max-worker-port": "0"}  # any free port: the nodes share an address
    given |= {name: str(port) for name, port in node.ports.items()}
    if index == 0:
        role = ["--head", f"--dashboard-host={cluster.host}"]
    else:
        role = [f"--address={cluster.address}"]
    # A folder for each node: in a shared one, a node would delete working directories that another node uses.
    role.append(f"--temp-dir={cluster.temp}/{index}")
    options = [f"--{name}={value}" for name, value in given.items()]
    return [sys.executable, "-P", "-c", BEGIN, "start", "--block", "--disable-usage-stats", *role, *options]


def start_env(cluster: Cluster, index: int) -> dict[str, str]:
    """Variables for a node's processes, in addition to those of this process that are not `foreign`."""
    share = cluster.nodes[index].devices
    own = {MARK: f"{cluster.id}.{index}", "SPT_NOENV": "1"}  # else a process that renames itself overwrites the mark
    own |= {"RAY_AUTH_MODE": "disabled"} if not cluster.token else {}
    return client_env(cluster) | own | ({} if share is None else {"CUDA_VISIBLE_DEVICES": share})


def client_env(cluster: Cluster) -> dict[str, str]:
    """The variables with which a program on this machine reaches the cluster through `ray.init`."""
    local = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"} if cluster.local else {}
    return local | ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": cluster.token} if cluster.token else {})


def foreign(name: str) -> bool:
    """Whether a variable belongs to another cluster or job, and must not reach the nodes."""
    return name.startswith("RAY_AUTH") or name in (
        "RAY_ADDRESS",
        "RAY_API_SERVER_ADDRESS",
        "RAY_JOB_CONFIG_JSON_ENV_VAR",
        MARK,
    )


def exports(cluster: Cluster) -> str:
    """Shell lines that export the variables of `client_env` and the address."""
    variables = {"RAY_ADDRESS": cluster.address} | client_env(cluster)
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def free_ports(n: int, host: str = LOOPBACK) -> list[int]:
    """n ports of `host` on which no process listens now."""
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
    """A host as it is written in front of a port: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host
