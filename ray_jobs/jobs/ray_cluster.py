"""The verbs `reprise cluster up|status|down|env|yaml`."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from cluster.job import parse_memory
from cluster.ray_clusters import nodes as ray_nodes
from cluster.ray_clusters import plan, record
from cluster.ray_clusters.plan import Cluster
from ray_jobs.errors import UsageError
from ray_jobs.jobs.verbs import usage

Provider = Literal["local", "aws", "gcp"]
RUNNING = ("PENDING", "RUNNING")
EXPOSED = """\
{name} can be reached over the network at {host}, and Ray's parts listen on every address of this machine: GCS, raylets,
object managers and metrics. The token protects jobs and calls. Metrics are open, and messages can be read on the network,
because nothing is encrypted unless RAY_USE_TLS is set. Keep the network private. docs/security.md says more."""


def up(
    name: str = "default",
    *,
    nodes: int = 1,
    cpus: float | None = None,
    gpus: float | None = None,
    memory: str = "",
    object_store: str = "",
    resources: dict[str, Any] | None = None,
    host: str = plan.LOOPBACK,
    token: bool = True,
) -> int:
    """Start a Ray cluster of processes on this machine.

    It continues without this terminal.

    Args:
        name: of the cluster; several may be up at once.
        nodes: how many, including the head.
        cpus: cores that each node offers; by default this machine's cores, divided among the nodes.
        gpus: GPUs of each node; by default all of this machine's for a single node, else none.
        memory: of each node, such as 4GiB; by default what Ray finds.
        object_store: memory of each node for shared objects; by default what Ray chooses.
        resources: further resources of each node, as '{"fast": 2}'.
        host: this machine's address to listen on; by default no other machine reaches the cluster.
        token: whether the cluster requires a token; false is allowed only where no other machine can reach it.

    Raises:
        UsageError: an option is wrong, the name is taken, or a node did not start.
    """
    from cluster.local import cores

    with usage():
        each = cpus if cpus is not None else max(1, cores() // max(1, nodes))
        cards = gpus if gpus is not None else (None if nodes == 1 else 0)
        room = parse_memory(memory) if memory else 0
        wanted = plan.plan_cluster(name, nodes, each, cards, room, resources or {}, host)
        if not token and not wanted.local:
            raise UsageError(f"Without a token anyone who reaches {host} can run programs here: leave --token true.")
        wanted = replace(wanted, object_store=parse_memory(object_store) if object_store else 0)
        cluster = ray_nodes.up(wanted, token=token)
    if not cluster.local:
        print(EXPOSED.format(name=name, host=host), file=sys.stderr)
    print(f"{name} is up with {nodes} node{'s' * (nodes > 1)}: dashboard {cluster.url}, Ray {cluster.address}.")
    print("`reprise submit --on ray VERB ...` uses it; " + _hint(name))
    return 0


def status(name: str = "") -> int:
    """Show the nodes, jobs and open ports of a cluster.

    Without a name, of all clusters that were started here.

    Returns:
        1 where a cluster does not run, else 0.
    """
    with usage():
        found = [record.load(name)] if name else record.known()
    if not found:
        print("No cluster was started here: `reprise cluster up` starts one.")
    return max([_show(cluster) for cluster in found], default=0)


def down(name: str = "", *, force: bool = False) -> int:
    """Stop a cluster: its own processes, and no other.

    Args:
        name: of the cluster; may be omitted where there is only one.
        force: stop it although jobs still run there.

    Raises:
        UsageError: there is no such cluster, it was started on another machine, or jobs still run there.
    """
    with usage():
        cluster = _only(name, record.known())
        busy = [] if force or not cluster.lives else _busy(cluster)
        if busy:
            raise UsageError(
                f"Jobs still run on {cluster.name}: {', '.join(busy)}. Cancel them first, or give --force."
            )
        ray_nodes.down(cluster)
    print(f"{cluster.name} is down.")
    return 0


def env(name: str = "") -> int:
    """Print the variables with which programs reach a cluster.

    In a shell: eval "$(reprise cluster env)".
    """
    with usage():
        print(plan.exports(_only(name, record.running())), end="")
    return 0


def yaml(
    name: str = "reprise",
    *,
    provider: Provider = "local",
    token: str = "",
    user: str = "",
    key: str = "",
    head: str = "",
    workers: str = "",
    most: int = 2,
    machine: str = "",
    region: str = "",
    project: str = "",
    idle_minutes: float = 10,
    setup: str = "",
) -> int:
    """Print the YAML of a cluster of machines for `ray up`.

    The cluster is closed to everything but SSH, and protected by a token.

    Args:
        name: of the cluster.
        provider: local, machines that you have; aws or gcp, machines that Ray rents.
        token: file that holds the cluster's token; it is copied to every node.
        user: name for the SSH login.
        key: file of the private SSH key.
        head: the head's address (local).
        workers: addresses of the other machines, separated by commas (local).
        most: machines besides the head, at most (aws, gcp).
        machine: kind of machine (aws, gcp).
        region: of the cloud.
        project: Google's.
        idle_minutes: minutes after which an idle machine is released.
        setup: a command of the shell that installs Reprise on a node.

    Raises:
        UsageError: an option is missing or wrong.
    """
    from cluster.ray_clusters import yaml as ray_yaml

    hosts = tuple(h.strip() for h in workers.split(",") if h.strip())
    wanted = ray_yaml.Machines(
        name,
        provider,
        user,
        key,
        token,
        head,
        hosts,
        most,
        machine,
        region,
        project,
        idle_minutes,
        (setup,) * bool(setup),
    )
    with usage():
        print(ray_yaml.render(wanted), end="")
    return 0


def _only(name: str, there: list[Cluster]) -> Cluster:
    """The cluster of this name, or the only one there is."""
    if name:
        return record.load(name)
    if len(there) == 1:
        return there[0]
    named = f"name one of {', '.join(c.name for c in there)}" if there else "`reprise cluster up` starts one"
    raise UsageError(f"There are {len(there)} clusters here: {named}.")


def _busy(cluster: Cluster) -> list[str]:
    """The ids of jobs that have not ended; none where the cluster does not answer."""
    try:
        return [job["submission_id"] for job in ray_nodes.jobs(cluster) if job["status"] in RUNNING]
    except ValueError:
        return []


def _show(cluster: Cluster) -> int:
    state = "up" if cluster.lives else "partly up" if ray_nodes.marked(cluster) else "dead"
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(cluster.created))
    print(f"{cluster.name}  {state}  {cluster.url}  since {since} on {cluster.machine}")
    if not cluster.lives:
        print(
            f"  `reprise cluster down {cluster.name}` stops what is left. Its logs: {cluster.temp}/0/session_latest/logs"
        )
        return 1
    try:
        there, jobs = ray_nodes.nodes(cluster), ray_nodes.jobs(cluster)
    except ValueError as error:
        print(f"  {error}")
        return 1
    for node in there:
        print(f"  {'head' if node['is_head_node'] else 'node'}  {_resources(node['resources_total'])}")
    for job in jobs:
        print(f"  job {job['submission_id']}  {job['status'].lower()}")
    print(f"  Ray {cluster.address}, token {cluster.token or 'none'}")
    print(
        f"  listens on {_addresses(ray_nodes.listening(cluster)) or 'unknown addresses (this system does not show them)'}"
    )
    return 0


def _resources(total: Mapping[str, float]) -> str:
    """A node's resources in words, without those that Ray adds for itself."""
    shown = {k: v for k, v in total.items() if not k.startswith(("node:", "object_store", "accelerator_type:"))}
    return ", ".join(f"{v / 2**30:.1f} GiB" if k == "memory" else f"{v:g} {k}" for k, v in sorted(shown.items()))


def _addresses(ports: Mapping[int, str]) -> str:
    """Each address with its ports."""
    named = sorted(set(ports.values()))
    return "; ".join(f"{a} ({', '.join(str(p) for p in sorted(ports) if ports[p] == a)})" for a in named)


def _hint(name: str) -> str:
    given = "" if name == "default" else f" {name}"
    return f"`reprise cluster status{given}` shows it, `reprise cluster down{given}` stops it."
