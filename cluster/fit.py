"""Reasons why no node of a cluster can start a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.job import (
    Resources,
)

if TYPE_CHECKING:
    pass


def unfit(wanted: Resources, nodes: list[dict[str, float]]) -> list[str]:
    """Every reason why no node could ever start the job's first process; busy nodes count as free.

    Args:
        wanted: what the first process needs.
        nodes: the total resources of each node, under Ray's names: CPU, GPU, and memory in bytes.
    """
    if not nodes:
        return ["The cluster has no living node yet: wait a moment and try again."]
    asked = [("CPU cores", "CPU", wanted.cpus, 1), ("GPUs", "GPU", wanted.gpus, 1)]
    asked.append(("GiB of memory", "memory", wanted.memory, 2**30))
    reasons = []
    for what, key, want, unit in asked:
        largest = max(node.get(key, 0.0) for node in nodes)
        if want > largest:
            reasons.append(
                f"{want / unit:g} {what} were asked for, and the cluster's largest node has {largest / unit:.4g}."
            )
    if not reasons and not any(all(node.get(key, 0.0) >= want for _, key, want, _ in asked) for node in nodes):
        reasons.append("No single node of the cluster has all the resources asked for: ask for fewer at once.")
    return reasons
