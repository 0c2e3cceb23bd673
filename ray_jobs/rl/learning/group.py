"""Several learners that share gradients: one Ray Train group, which begins anew from its newest checkpoint when one of them dies."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ray_jobs.distributed.connection import Lost, connect
from ray_jobs.distributed.deaths import who_died
from ray_jobs.distributed.ray_group import Group, outlive
from ray_jobs.envs import failures
from ray_jobs.envs.failures import EnvironmentFailed
from ray_jobs.errors import UsageError
from ray_jobs.rl.learning.training import Recorder, Report, save


@dataclass
class Grouped:
    """One of several learners in a torch.distributed group."""

    rng: torch.Generator
    device: torch.device
    progress: float = 0.0

    def __post_init__(self) -> None:
        self.size, self.rank = dist.get_world_size(), dist.get_rank()

    def mean(self, x: Tensor) -> Tensor:
        """One all-reduce; every learner gets the same bits."""
        summed = x.detach().to(self.device, copy=True)
        dist.all_reduce(summed)
        return (summed / self.size).to(x.device)

    def gather(self, x: Any) -> list[Any]:
        """Every learner's x on the first; the others get an empty list."""
        found = [None] * self.size if self.rank == 0 else None
        dist.gather_object(x, found)
        return found or []


class Sender:
    """The first learner's end of the mailbox; the others' sends notes alone."""

    def __init__(self, mail: Any, rank: int) -> None:
        self.mail, self.rank, self.first, self.reply = mail, rank, rank == 0, None

    def send(self, kind: str, *content: Any) -> None:
        if self.first or kind == "note":
            self.reply = self.mail.put.remote({kind: content})

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.send("log", step, metrics)

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        self.send("save", step, state)

    def report(self, event: Mapping[str, Any]) -> None:
        if "note" in event:
            self.send("note", f"learner {self.rank}: {event['note']}")
        else:
            self.send("report", event)

    def should_stop(self) -> bool:
        """What the driver answered last; never waits for it."""
        import ray

        if self.reply is None:
            return False
        ready, _ = ray.wait([self.reply], timeout=0)
        return bool(ready) and ray.get(ready[0])


def worker(config: dict[str, Any]) -> None:
    """One learner's process in the group."""
    import ray
    from ray import train

    from ray_jobs.rl.learning.setup import generator, prepare  # which imports this module

    torch.set_num_threads(1)
    mail = config["mailbox"]
    step, state = ray.get(config["from"])
    rank, device = dist.get_rank(), torch.device(config["device"])
    sender = Sender(mail, rank)
    sender.send("begins", step)
    world = Grouped(generator(config["seed"], rank), device)

    def tell(error: Exception) -> None:
        ray.get(mail.put.remote({"failed": (type(error), str(error))}))

    def end(error: EnvironmentFailed) -> None:
        tell(error)
        os._exit(1)

    failures.on_hang = end  # Ray Train runs this function beside the main thread
    try:
        training = prepare(
            config["recipe"],
            config["seed"],
            world,
            config["runners"],
            sender,
            sender.report,
            sender.should_stop,
            str(device),
        )
        result = training.go(state, ours=step > config["begun"])
    except (FloatingPointError, UsageError, EnvironmentFailed, Lost) as error:
        tell(error)
        raise
    if rank == 0:
        ray.get(mail.put.remote({"result": result}))
    train.report({})


def group(
    config: dict[str, Any],
    learners: int,
    run: Recorder,
    resume: Mapping[str, Any] | None,
    report: Report,
    should_stop: Callable[[], bool],
    allowed: int,
) -> dict[str, float]:
    """Train with several learners in one Ray Train group; this process records what the first of them says.

    Raises:
        FloatingPointError, UsageError, EnvironmentFailed: as `runtime.play`, on any of the learners.
        Lost: learners died more often than is `allowed`, or found no place.
    """
    ray = connect(None)
    folder = os.path.abspath(getattr(run, "path", None) or tempfile.mkdtemp(prefix="reprise-"))
    record = Record(run, report, allowed, resume)
    learning = Group(worker, f"{folder}/learners", config["device"] != "cpu", record.hear, report, should_stop)
    begun = record.saved

    def life() -> Exception | None:
        ended = learning.live(learners, config | {"begun": begun, "from": ray.put((record.saved, record.state))})
        return None if record.failed else ended

    ended = outlive(life, record.died, allowed)
    if record.failed:
        kind, why = record.failed
        raise kind(why)
    if ended:
        raise record.last(ended)
    return record.result or {"env_steps": float(record.saved)}  # told to stop while no learner had a place


class Record:
    """What the driver hears of its learners, and writes down."""

    def __init__(self, run: Recorder, report: Report, allowed: int, resume: Mapping[str, Any] | None) -> None:
        self.run, self.report, self.allowed = run, report, allowed
        self.saved, self.state = (resume["step"], resume) if resume else (0, None)
        self.deaths, self.how = 0, ""
        self.failed: tuple[type[Exception], str] | None = None
        self.result: dict[str, float] | None = None

    def hear(self, event: Mapping[str, Any]) -> None:
        for kind, content in event.items():
            getattr(self, f"on_{kind}")(content)

    def on_log(self, content: Any) -> None:
        self.run.log(*content)

    def on_save(self, content: Any) -> None:
        """A learner saw no disk: one that is full is met here."""
        self.saved, self.state = content
        save(self.run, *content, self.report)

    def on_report(self, content: Any) -> None:
        self.report(*content)

    def on_note(self, content: Any) -> None:
        self.report({"note": content[0]})

    def on_begins(self, content: Any) -> None:
        """What was logged after the checkpoint will be logged again."""
        if self.how:
            self.run.rewind(content[0])

    def on_failed(self, content: tuple[type[Exception], str]) -> None:
        self.failed = self.failed or content

    def on_result(self, content: dict[str, float]) -> None:
        self.result = content

    def died(self, causes: Mapping[int, str], deaths: int) -> None:
        """Say of whom, and from where all go on."""
        self.deaths, self.how = deaths, who_died(causes, "learner")
        if deaths <= self.allowed:
            count = f"death {deaths} of {self.allowed} allowed"
            self.report({"note": f"{self.how}; all learners go on from step {self.saved} ({count})"})

    def last(self, ended: Exception) -> Exception:
        """What to raise for what ended Ray Train."""
        if self.deaths <= self.allowed:
            return ended
        often = f"{self.deaths} times, more often than --max_failures allows"
        return Lost(f"Learners died {often}; at last {self.how}: 'reprise resume' goes on from step {self.saved}.")
