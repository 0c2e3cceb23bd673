"""Placement of a trial's processes: the resources that Ray Tune reserves for it on each node, and those that it reserves itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ray_jobs.errors import UsageError
from ray_jobs.recipe.plan import Layout
from ray_jobs.recipe.spec import Where

DRIVER = {"memory": float(1 << 20)}
"""Resources of a process that only waits for a group of workers: a bundle must not be empty, and it needs no CPU."""


def trial_placement(
    where: Where, layout: Layout, nodes: Sequence[Mapping[str, float]]
) -> tuple[Where, tuple[dict[str, float], ...]]:
    """Where a trial trains, and the bundles of its placement group, the one of its own process first.

    A generative model trains within one bundle, so on one node and without Ray, where a node has room for all its workers; otherwise
    its workers are a Ray Train group over several nodes. An agent's runners have their own bundles, on the same node where there is
    room. Ray Train groups, several learners included, reserve their resources themselves: reserved here as well they would count
    twice, and a cluster that is just large enough would wait for ever.

    Args:
        where: workers, learners and threads that were asked for.
        layout: the processes of one trial.
        nodes: all resources of each node.

    Raises:
        UsageError: no node has room for a process that cannot be divided, or all nodes together have no room for a group.
    """
    wide = layout.group
    gpu = where.accelerator == "gpu" or (
        where.accelerator == "auto" and layout.gpu and any(n.get("GPU", 0) for n in nodes)
    )
    first = {"CPU": float(wide * where.threads)} | ({"GPU": float(wide)} if gpu else {})
    room = any(all(node.get(name, 0) >= much for name, much in first.items()) for node in nodes)
    if layout.local and room:
        return replace(where, address="local"), (first,)
    if wide > 1:
        every = layout.cpus(where.threads)
        most = sum(node.get("CPU", 0) for node in nodes)
        if every > most:
            raise UsageError(f"A trial needs {every} CPUs, and all nodes of the cluster have {most:g}: take fewer.")
        return (replace(where, address="auto") if layout.local else where), (dict(DRIVER),)
    if not room:
        asked = " and ".join(f"{much:g} {name}s" for name, much in first.items())
        raise UsageError(f"A trial needs {asked} on one node, but no node of the cluster has as many: take fewer.")
    return where, (first, *({"CPU": 1.0} for _ in range(layout.helpers)))
