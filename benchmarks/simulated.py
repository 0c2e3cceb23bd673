"""A Ray cluster of many nodes on one machine: a real GCS and real raylets, whose cores and GPUs are made up.

Programs that a real node runs besides its raylet, and that scheduling does not need, are left out: its two agents sleep, no worker
is started ahead of its task, no metrics are gathered, nothing scales. A variable tells a raylet which node it is, and whatever it
starts inherits that.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NODE = "SIMULATED_NODE"
"""The variable that holds a node's number."""
LIGHT = {
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_event_stats": "0",
    "RAY_scheduler_spread_threshold": "0.0",  # a few seeds go to many nodes, as when all places are taken
    "RAY_worker_maximum_startup_concurrency": "1",  # of each node: all nodes share this machine's cores
    "RAY_raylet_report_resources_period_milliseconds": "1000",  # a tenth of what they tell each other by themselves
    "RAY_worker_register_timeout_seconds": "600",  # or those that start slowly are started again and again
    "RAY_health_check_period_ms": "30000",
    "RAY_health_check_timeout_ms": "120000",
    "RAY_gcs_server_request_timeout_seconds": "600",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "600",
    "RAY_AUTH_MODE": "disabled",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
STORE = 80 * 2**20
"""Bytes of a node's object store, about Ray's least; memory that is not used is not taken."""
PATIENCE = 300.0
"""Seconds for a node to join."""
AGENTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
"""Files by which a raylet's agents say where they listen: it waits for them, and ends where it reads one half written."""
SLEEP = (
    "for a do case $a in --node-id=*) n=${a#*=};; --session-dir=*) s=${a#*=};; esac; done; "
    f"for p in {' '.join(AGENTS)}; do echo 20001 > $s/$$.$p; mv $s/$$.$p $s/${{p}}_$n; done; exec sleep 1000000"
)


@contextlib.contextmanager
def cluster(nodes: int, *, cpus: int, gpus: int, temp: Path | None = None) -> Iterator[dict[str, Any]]:
    """Connects this process to such a cluster, whose head has no cores; gives how long its start took and what it holds.

    Args:
        nodes: besides the head.
        cpus, gpus: of each.
        temp: folder of its sockets and logs; short, for a socket's path may have 107 characters.
    """
    os.environ.update(LIGHT)  # before Ray reads them
    import ray
    from ray.cluster_utils import Cluster

    with sleeping_agents():
        started = time.monotonic()
        made = Cluster(shutdown_at_exit=True)
        try:
            head = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
            made.add_node(num_cpus=0, **head, **common(temp))
            for i in range(nodes):
                join(made, i + 2, num_cpus=cpus, num_gpus=gpus, env_vars={NODE: str(i)}, **common(temp))
            ray.init(address=made.address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
            yield {"start_s": time.monotonic() - started} | memory()
        finally:
            ray.shutdown()
            made.shutdown()


def join(made: Any, number: int, **node: Any) -> None:
    """Add a node, as the `number`-th of all; where Ray's patience of 30 s ends first, as on a busy machine, wait on for it."""
    try:
        made.add_node(wait=False, **node)
    except Exception:  # Ray has no name for it
        deadline = time.monotonic() + PATIENCE
        while len(made.global_state._live_node_ids()) < number:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def common(temp: Path | None) -> dict[str, Any]:
    """What all nodes have in common."""
    where = {"temp_dir": str(temp)} if temp else {}
    return {"object_store_memory": STORE, "node_ip_address": "127.0.0.1", **where}


@contextlib.contextmanager
def sleeping_agents() -> Iterator[None]:
    """Inside, a node that starts gets processes that sleep in place of its agents."""
    from ray._private import ray_constants, services

    ours = services._build_python_executable_command_memory_profileable
    agents = (ray_constants.PROCESS_TYPE_DASHBOARD_AGENT, ray_constants.PROCESS_TYPE_RUNTIME_ENV_AGENT)

    def built(component: str, *args: Any, **options: Any) -> list[str]:
        return ["/bin/sh", "-c", SLEEP] if component in agents else ours(component, *args, **options)

    services._build_python_executable_command_memory_profileable = built
    try:
        yield
    finally:
        services._build_python_executable_command_memory_profileable = ours


def processes(name: str) -> list[Path]:
    """The folders in /proc of this process's descendants whose program has this name."""
    parents, programs = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            head, _, rest = (path / "stat").read_text().rpartition(")")
            parents[int(path.name)] = int(rest.split()[1])
            programs[int(path.name)] = head.partition("(")[2]
    return [Path(f"/proc/{pid}") for pid in programs if programs[pid].startswith(name[:15]) and ours(pid, parents)]


def ours(pid: int, parents: dict[int, int]) -> bool:
    """Whether a process descends from this one."""
    while pid not in (0, 1):
        if pid == os.getpid():
            return True
        pid = parents.get(pid, 0)
    return False


def share(path: Path) -> float:
    """Bytes of memory that are a process's own: shared pages count in parts."""
    with contextlib.suppress(OSError, StopIteration):
        line = next(x for x in (path / "smaps_rollup").read_text().splitlines() if x.startswith("Pss:"))
        return int(line.split()[1]) * 1024
    return 0.0


def memory() -> dict[str, float]:
    """How many raylets there are, and the MiB of one and of the GCS."""
    raylets, servers = [[share(p) for p in processes(name)] for name in ("raylet", "gcs_server")]
    return {
        "raylets": len(raylets),
        "raylet_mib": sum(raylets) / max(1, len(raylets)) / 2**20,
        "gcs_mib": sum(servers) / 2**20,
    }
