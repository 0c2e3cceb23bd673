"""Seeds as tasks of a Ray cluster: how many fit, and how a seed whose worker or node died is started again."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ray_jobs.distributed import connection, head, mailbox
from ray_jobs.errors import UsageError
from ray_jobs.reproduce import seeds
from ray_jobs.reproduce.seeds import held, members
from ray_jobs.run.files import last_lines


class Needs(NamedTuple):
    """The CPUs and GPUs that one run holds."""

    cpus: int
    gpus: int = 0


def on_cluster(
    address: str,
    width: int,
    each: int = 0,
    build: seeds.Build = seeds.command,
    of: Mapping[str, Needs] | None = None,
    restarts: int = 0,
) -> tuple[seeds.Start, int]:
    """Seeds as tasks of a Ray cluster, whose nodes must all see the same `out`: how to start one, and how many fit at a time.

    Args:
        address: of the cluster.
        width: CPUs of a seed whose recipe is not in `of`.
        each: its GPUs, if there are any.
        build: the command of a seed.
        of: what a recipe's seeds need.
        restarts: how often a seed whose worker or node dies is started again.

    Raises:
        UsageError: the cluster cannot be reached, or no node can hold one seed.
    """
    ray = connection.connect(address)
    nodes = [n["Resources"] for n in ray.nodes() if n["Alive"]]
    cards = any(n.get("GPU") for n in nodes)
    sizes = {name: n if cards else Needs(n.cpus) for name, n in ({"": Needs(width, each)} | dict(of or {})).items()}
    kinds = {sizes[name] for name in of or [""]}
    for size in kinds:
        refuse_narrow(address, size, nodes)
    # a process that served again would stay ours as long as we have seeds, and another job on the cluster would wait
    task = ray.remote(max_retries=0, max_calls=1)(run_there)
    where = mailbox.NodeTracker(ray)

    def start(unit: seeds.Unit, slot: int) -> seeds.Process:
        need = sizes[members(unit)[0].recipe if of else ""]
        sized = task.options(num_cpus=need.cpus, num_gpus=need.gpus)

        def begin(name: str) -> Any:
            return sized.remote(build(unit), sys.executable, str(unit.log), where.mail, name)

        return RayProcess(begin, unit, restarts, where.lost)

    return start, sum(room(node, kinds) for node in nodes)


def room(node: Mapping[str, float], kinds: Collection[Needs]) -> int:
    """How many runs of these kinds fill a node: as many as fit of those that need most GPUs, then the others in the rest."""
    cpus, gpus, runs = node.get("CPU", 0), node.get("GPU", 0), 0
    for need in sorted(kinds, key=lambda n: (n.gpus, n.cpus), reverse=True):
        many = int(min(cpus // need.cpus, gpus // need.gpus if need.gpus else math.inf))
        cpus, gpus, runs = cpus - many * need.cpus, gpus - many * need.gpus, runs + many
    return runs


def refuse_narrow(address: str, need: Needs, nodes: Sequence[Mapping[str, float]]) -> None:
    """Refuse a run that no node could hold.

    Raises:
        UsageError: no node has enough CPUs or GPUs.
    """
    if not any(room(node, [need]) for node in nodes):
        most = max((int(n.get("CPU", 0)) for n in nodes), default=0)
        raise UsageError(
            f"A run needs {need.cpus} CPUs and {need.gpus} GPUs on one node; the widest node of {address} has {most} CPUs."
        )


def run_there(argv: list[str], python: str, log: str, mail: Any, name: str) -> tuple[int, list[str]]:
    """Run the command in a Ray task, with this node's Python; stop it when the task is cancelled. Returns its exit code and last lines."""
    mailbox.report_node(mail, name)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as where a script in the background started the cluster
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ray.cancel sends it
    ours = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}  # the packages that Ray shipped, for the child too
    command = seeds.bound([sys.executable if word == python else word for word in argv])
    child = seeds.LocalProcess(command, Path(log), ours)
    try:
        while child.poll() is None:  # in steps: ray.cancel interrupts Python, not a blocking wait
            time.sleep(0.2)
    finally:
        seeds.stop([child])
    return child.poll() or 0, child.tail()


class RayProcess:
    """A seed as a Ray task. Where its worker or node dies it is started again, and continues from its newest checkpoint.

    Args:
        begin: starts the task, under a new name.
        unit: the seeds that it trains.
        restarts: how often it is started again.
        lost: whether the node that runs the task of a name is gone.
    """

    def __init__(
        self,
        begin: Callable[[str], Any],
        unit: seeds.Unit,
        restarts: int = 0,
        lost: Callable[[str], bool] = lambda name: False,
    ) -> None:
        self._start, self._unit, self._restarts, self._lost, self._lines = begin, unit, restarts, lost, []
        self._start_task()

    def _start_task(self) -> None:
        self._name = uuid.uuid4().hex
        self._reference = self._start(self._name)
        self._answer = self._reference.future()  # completed by Ray itself, so checking it costs no call
        self._died = False

    def poll(self) -> int | None:
        """Its exit code, or None while it works or is started again."""
        import ray

        if self._died and not any(
            map(held, members(self._unit))
        ):  # a process that still holds the folder may be saving
            for seed in members(self._unit):
                seeds.fetch(seed)
            self._start_task()
        if self._died:
            return None
        if not self._answer.done():
            return self._after("its node is gone") if self._lost(self._name) else None
        try:
            code, self._lines = self._answer.result()
        except ray.exceptions.RayError as error:
            restartable = not isinstance(error, ray.exceptions.RayTaskError | ray.exceptions.TaskCancelledError)
            return self._after(connection.cause(error), restartable=restartable)
        return code

    def _after(self, why: str, *, restartable: bool = True) -> int | None:
        """Handle the death of a task: None where it is started again, else its exit code."""
        if head.head_is_gone():  # not the task's fault: `head_watched` ends this process, or the head comes back
            return None
        if not (self._restarts and restartable):
            self._lines = [f"its Ray task died: {why}"]
            return 1
        self._restarts, self._died = self._restarts - 1, True
        print(f"{members(self._unit)[0]}: {why}; it is started again.", flush=True)
        return None

    def tail(self) -> list[str]:
        """The last lines that it wrote, or why it died."""
        return self._lines or last_lines(self._unit.log)

    def terminate(self) -> None:
        """Ask it to save and stop."""
        self._cancel(force=False)

    def kill(self) -> None:
        """End it now."""
        self._cancel(force=True)

    def _cancel(self, *, force: bool) -> None:
        import ray

        self._restarts, self._died = 0, False
        ray.cancel(self._reference, force=force)
