"""Where this process meets Ray: connecting to a cluster, and seeing a group of workers through to its end. Imports no torch."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray_jobs.errors import UsageError
from ray_jobs.run.progress import Report
from ray_jobs.run.signals import handlers_kept

PATIENCE = 60.0
"""Seconds without a word of a group, after which the user is told so."""
START_LIMIT = 600.0
"""Seconds that workers may take to start: a cluster may have to find a node for them."""
BROKEN = "its connection is broken"
GONE = (
    "The cluster's head is gone, or what of Ray runs on this machine ({}): "
    "on a cluster that is up, 'reprise resume' goes on from the last checkpoint."
)
OURS = ("ray_jobs", "lightning_modules", "datamodules", "cluster")
OBJECT_STORE = 200_000_000
"""Bytes for objects of a Ray that is started here: fragments and weights are small."""
NODES_PAUSE = 2.0
"""Seconds between two looks at which nodes the cluster has lost."""
HEAD_PAUSE = 2.0
"""Seconds between two looks at whether the head of a cluster is there."""
HEAD_LIMIT = 30.0
"""Seconds without the head of a cluster after which it is given up; Ray itself would end this process after 60, without a word."""


class Lost(ConnectionError):
    """Processes on a cluster that die too often, or find no place: one sentence says which."""


def cause(error: BaseException) -> str:
    """Why Ray says that a process died, without its pages."""
    said = " ".join(str(error).split())
    if any(sign in said for sign in ("node has died", "node was terminated", "node it was running on is dead")):
        return "its node is gone"
    if "running low on memory" in said:
        return "its node ran out of memory"
    if any(sign in said for sign in ("worker process has died", "Worker exit", "worker died unexpectedly")):
        return "its process ended"
    if any(sign in said for sign in ("is unavailable", "Connection closed by peer", "Connection reset by peer")):
        return BROKEN
    first = said.partition(". ")[0].rstrip(".")
    return f"{type(error).__name__}{': ' * bool(first)}{first[:200]}"


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for as long as it lasts."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


def cluster_address(address: str | None) -> str | None:
    """The Ray cluster to use: --address, else RAY_ADDRESS; 'local' names this machine in spite of RAY_ADDRESS."""
    address = address or os.environ.get("RAY_ADDRESS")
    return None if address == "local" else address


def connect(address: str | None, cpus: int = 1) -> Any:
    """Ray, connected to the cluster at `address`, which gets the packages that are running here; else one of our own.

    Args:
        address: as `cluster_address` gives it. Nothing happens where this process is connected already.
        cpus: that a Ray of our own must have for our work. It gets one more, for whatever Ray itself starts: full to the
            last, a runner could wait for ever.

    Raises:
        UsageError: no cluster answers there.
    """
    import ray

    if ray.is_initialized():
        return ray
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address:
        _knock(address)
        wanted = {"address": address, "runtime_env": _packages()}
    else:
        room = max(cpus + 1, os.cpu_count() or 1)
        own = {"num_cpus": room, "include_dashboard": False, "object_store_memory": OBJECT_STORE}
        wanted = {"address": "local", "configure_logging": False, **own}
    try:
        with handlers_kept():  # Ray's own would end the process before it has saved
            ray.init(**wanted, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"No Ray cluster answers at {address} ({str(error).splitlines()[0]}): start one, leave --address out, "
            "or, where it asks for a token, export RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH."
        ) from None
    return ray


def _knock(address: str) -> None:
    """Refuse an address where nothing listens: Ray itself would try for minutes."""
    error = _unanswered(address.removeprefix("ray://"), 5)
    if error:
        raise UsageError(f"No Ray cluster answers at {address} ({error}): is it up, and is the port 6379's?")


def _unanswered(address: str, seconds: float) -> OSError | None:
    """Why nothing answers at 'host:port'; None where something does, and of an address of another form, of which only Ray can tell."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=seconds).close()
        except OSError as error:
            return error
    return None


@contextlib.contextmanager
def head_watched(lost: Callable[[str], None]) -> Iterator[None]:
    """Meanwhile, call `lost` with a sentence, from another thread, when the head of the cluster that we are connected to is gone.

    Whatever waits for Ray then may wait for ever, so that all that is left for `lost` to do is to say so and to end the process.
    """
    over = threading.Event()
    threading.Thread(target=_watch_head, args=(over, lost), daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _watch_head(over: threading.Event, lost: Callable[[str], None]) -> None:
    seen = time.monotonic()
    while not over.wait(HEAD_PAUSE):
        now = time.monotonic()
        if not head_is_gone():
            seen = now
        elif now - seen > HEAD_LIMIT:
            lost(
                f"The head of the Ray cluster at {_head()} has not answered for {HEAD_LIMIT:.0f} s: it died, or is cut off from here."
            )
            return


def head_is_gone() -> bool:
    """Whether the head of the cluster that we are connected to does not answer now."""
    return _unanswered(_head(), 2) is not None


def _head() -> str:
    """The address of the head, where this process is connected to one without Ray's own client between."""
    ray = sys.modules.get("ray")
    with contextlib.suppress(Exception):  # Ray may be on its way up or down
        return ray.get_runtime_context().gcs_address if ray and ray.is_initialized() else ""
    return ""


def _packages() -> dict[str, Any]:
    """The runtime environment that ships our packages; nothing inside a Ray job, whose working directory has them already."""
    if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):
        return {}
    return {"py_modules": [str(Path(__file__).parents[2] / p) for p in OURS]}


class Mailbox:
    """A Ray actor between the workers of a group and the driver: events one way, the wish to stop the other way."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.stop = False

    def put(self, event: Mapping[str, Any]) -> bool:
        """Leave an event. Whether the driver wants to stop."""
        self.events.append(dict(event))
        return self.stop

    def take(self, stop: bool) -> list[dict[str, Any]]:
        """All events since the last time."""
        self.stop = self.stop or stop
        events, self.events = self.events, []
        return events

    def told_to_stop(self) -> bool:
        return self.stop


def mailbox(ray: Any) -> Any:
    """A mailbox that takes no core from the workers, on the driver's own node: it must not die with another one."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Mailbox).remote()


class Whereabouts:
    """On which node each of our tasks runs, by its own word, and whether the cluster has lost that node.

    The owner of a task hears of it from Ray when its connection breaks: of a node from which no packet comes back, minutes later.
    """

    def __init__(self, ray: Any) -> None:
        self.mail = mailbox(ray)
        self._ray, self._looked = ray, -math.inf
        self._nodes: dict[str, str] = {}
        self._gone: set[str] = set()

    def lost(self, task: str) -> bool:
        """Whether the task of that name has said where it runs, and its node is gone."""
        now = time.monotonic()
        if now - self._looked > NODES_PAUSE:
            self._looked = now
            with contextlib.suppress(self._ray.exceptions.RayError):  # on a cluster that is going down
                self._nodes |= {e["task"]: e["node"] for e in self._ray.get(self.mail.take.remote(False))}
                self._gone = {n["NodeID"] for n in self._ray.nodes() if not n["Alive"]}
        return self._nodes.get(task) in self._gone


def tell_where(mail: Any, task: str) -> None:
    """In a task: let its owner's `Whereabouts` know."""
    import ray

    mail.put.remote({"task": task, "node": ray.get_runtime_context().get_node_id()})


def casualties(ended: Exception | None) -> dict[int, str]:
    """Who of a group died, by rank, and why; nobody where it ended otherwise."""
    preempted = getattr(getattr(ended, "preemption_info", None), "preempted_ranks", ())
    failures: Mapping[int, Exception] = getattr(ended, "worker_failures", {})
    return dict.fromkeys(preempted, "its node was taken back") | {rank: cause(e) for rank, e in failures.items()}


def placeless(ended: Exception | None) -> bool:
    """Whether a group ended before it began: its workers found no place within Ray's minute, or lost it at once."""
    return type(getattr(ended, "controller_failure", None)).__name__.startswith("WorkerGroupStartup")


def who_died(died: Mapping[int, str], name: str) -> str:
    """Whose death ended a group, and why, by the causes of its ranks; a survivor may only tell that another is gone."""
    whole = {rank: why for rank, why in died.items() if why != BROKEN}
    rank, why = next(iter((whole or died).items()))
    return f"{name} {rank} died ({why})" if whole else f"a {name} died ({name} {rank} lost its connection)"


@dataclass(frozen=True)
class Group:
    """Workers that are to do the same at once, through Ray Train."""

    work: Callable[[dict[str, Any]], None]
    """What each does with its configuration, in which 'mailbox' is how it speaks with the driver."""
    folder: str
    """For Ray Train's own books."""
    use_gpu: bool
    """Whether each takes a GPU, or else a CPU core."""
    hear: Callable[[dict[str, Any]], None]
    """Gets each event that they leave."""
    report: Report
    should_stop: Callable[[], bool]

    def live(self, workers: int, config: Mapping[str, Any], *, patient: bool = True) -> Exception | None:
        """One life, from its beginning to its end; the error that ended it, if one did.

        It has a mailbox of its own, which ends with it. Who still works for it then, on a node that the cluster has lost sight of,
        is heard no more, and whoever asks before each write finds nobody to ask.

        Args:
            patient: whether to wait for places as long as `oversee` does, or to end as `placeless` after Ray's minute.
        """
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        once = FailureConfig(max_failures=0, max_preemption_failures=0, controller_failure_limit=-1 if patient else 0)
        each = None if self.use_gpu else {"CPU": 1}
        mail = mailbox(ray)
        trainer = TorchTrainer(
            self.work,
            train_loop_config={**config, "mailbox": mail},
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=self.use_gpu, resources_per_worker=each),
            run_config=RunConfig(name="ray", storage_path=self.folder, failure_config=once),
        )
        try:
            return oversee(trainer, mail, self.hear, self.report, self.should_stop)
        finally:
            ray.kill(mail)


def outlive(
    life: Callable[[], Exception | None], died: Callable[[Mapping[int, str], int], None], allowed: int
) -> Exception | None:
    """Let a group begin anew as often as workers of it die, `allowed` times; the error that ended the last one, if one did.

    Args:
        life: the group from its beginning to its end.
        died: told of each death: why, by rank, and how many there were. A node that is taken back counts as none.
    """
    deaths = 0
    while causes := casualties(ended := life()):
        deaths += not hasattr(ended, "preemption_info")
        died(causes, deaths)
        if deaths > allowed:
            break
    return ended


def oversee(
    trainer: Any,
    mail: Any,
    hear: Callable[[dict[str, Any]], None],
    report: Report,
    should_stop: Callable[[], bool],
) -> Exception | None:
    """Run a Ray Train trainer to its end, hearing every event that its workers leave; the error that ended it, if one did.

    Nobody waits for ever for a group that finds no place: it is given up as Lost, and, where it is to stop, left. A cluster that is gone is
    Lost, too.
    """
    import ray

    ended: list[Exception] = []
    thread = threading.Thread(target=_fit, args=(trainer, ended), daemon=True)
    thread.start()
    running, silent_since, placeless_since = True, time.monotonic(), time.monotonic()
    while running:
        thread.join(timeout=0.2)
        running = thread.is_alive()  # asked before the mail is fetched, so that the last of it is heard
        try:
            events = ray.get(mail.take.remote(should_stop()))
        except ray.exceptions.RayError as error:  # the mailbox is on this node
            return Lost(GONE.format(cause(error)))
        now = time.monotonic()
        if events:
            silent_since, placeless_since = now, float("inf")
        elif now - silent_since > PATIENCE:
            silent_since = now
            report({"note": f"nothing heard of the workers for {PATIENCE:.0f} s: has the cluster room for them?"})
        for event in events:
            hear(event)
        if running and placeless_since < now and should_stop():
            return None
        if running and now - placeless_since > START_LIMIT:
            ray.get(mail.take.remote(True))  # whoever does find a place one day stops at once
            return Lost(f"The workers found no place on the cluster within {START_LIMIT:.0f} s: make room, and resume.")
    return ended[0] if ended else None


def _fit(trainer: Any, ended: list[Exception]) -> None:
    try:
        trainer.fit()
    except Exception as error:  # whatever ended Ray Train is told in the driver's thread
        ended.append(error)
