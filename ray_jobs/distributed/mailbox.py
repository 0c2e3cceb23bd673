"""A Ray actor through which a driver and its workers exchange messages, and where each worker runs."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from typing import Any

NODES_PAUSE = 2.0
"""Seconds between two looks at which nodes the cluster has lost."""


class Mailbox:
    """A Ray actor between the workers of a group and the driver: events one way, the request to stop the other way."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.stop = False

    def put(self, event: Mapping[str, Any]) -> bool:
        """Leave an event; returns whether the driver asks to stop."""
        self.events.append(dict(event))
        return self.stop

    def take(self, stop: bool) -> list[dict[str, Any]]:
        """All events since the last call. `stop` asks the workers to stop."""
        self.stop = self.stop or stop
        events, self.events = self.events, []
        return events

    def should_stop(self) -> bool:
        """Whether the driver asks to stop."""
        return self.stop


def mailbox(ray: Any) -> Any:
    """A mailbox actor that takes no CPU from the workers, on the driver's own node: it must not die with another node."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Mailbox).remote()


class NodeTracker:
    """Tracks the node of each of our tasks, as the tasks report it, and whether the cluster has lost that node.

    Ray tells the owner of a task only when its connection breaks: minutes later, if the node no longer answers any packet.
    """

    def __init__(self, ray: Any) -> None:
        self.mail = mailbox(ray)
        self._ray, self._looked = ray, -math.inf
        self._nodes: dict[str, str] = {}
        self._gone: set[str] = set()

    def lost(self, task: str) -> bool:
        """Whether the task of that name has reported its node, and that node is gone."""
        now = time.monotonic()
        if now - self._looked > NODES_PAUSE:
            self._looked = now
            with contextlib.suppress(self._ray.exceptions.RayError):  # on a cluster that is going down
                self._nodes |= {e["task"]: e["node"] for e in self._ray.get(self.mail.take.remote(False))}
                self._gone = {n["NodeID"] for n in self._ray.nodes() if not n["Alive"]}
        return self._nodes.get(task) in self._gone


def report_node(mail: Any, task: str) -> None:
    """In a task: report its node to its owner's `NodeTracker`."""
    import ray

    mail.put.remote({"task": task, "node": ray.get_runtime_context().get_node_id()})
