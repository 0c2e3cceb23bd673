"""Several learners that share gradients: one Ray Train group, restarted from its newest checkpoint when a learner dies."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ray_jobs.distributed.connection import Lost, connect
from ray_jobs.distributed.deaths import who_died
from ray_jobs.distributed.ray_group import Group, restart_on_failure
from ray_jobs.envs import failures
from ray_jobs.envs.failures import EnvironmentFailed
from ray_jobs.envs.making import learn_of
from ray_jobs.errors import UsageError
from ray_jobs.rl.learning.training import Recorder, Report, save
from ray_jobs.rl.rollout.runner import ASK_EVERY


@dataclass
class DistributedWorld:
    """One of several learners in a torch.distributed group."""

    rng: torch.Generator
    device: torch.device
    progress: float = 0.0

    def __post_init__(self) -> None:
        self.size, self.rank = dist.get_world_size(), dist.get_rank()

    def mean(self, x: Tensor) -> Tensor:
        """The mean over learners by one all-reduce; every learner gets the same bits."""
        summed = x.detach().to(self.device, copy=True)
        dist.all_reduce(summed)
        return (summed / self.size).to(x.device)

    def gather(self, x: Any) -> list[Any]:
        """Every learner's x on the first learner; the others get an empty list."""
        found = [None] * self.size if self.rank == 0 else None
        dist.gather_object(x, found)
        return found or []


class DriverProxy:
    """A learner's end of the mailbox: recorder, report and stop request of its training. Only the first one sends more than notes."""

    def __init__(self, mail: Any, rank: int) -> None:
        self.mail, self.rank, self.first, self.reply = mail, rank, rank == 0, None
        self.stop, self.asked = False, time.monotonic()

    def send(self, kind: str, *content: Any) -> None:
        """Leave an event for `GroupDriver.on_KIND`."""
        if self.first or kind == "note":
            self.reply = self.mail.put.remote({kind: content})

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """As `Recorder.log`."""
        self.send("log", step, metrics)

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """As `Recorder.save`."""
        self.send("save", step, state)

    def report(self, event: Mapping[str, Any]) -> None:
        """Show an event to the user; a note says from which learner."""
        if "note" in event:
            self.send("note", f"learner {self.rank}: {event['note']}")
        else:
            self.send("report", event)

    def should_stop(self) -> bool:
        """The driver's last answer; does not wait for a new one, and asks for one a few times a second."""
        import ray

        if self.reply is not None and ray.wait([self.reply], timeout=0)[0]:
            self.stop, self.reply = self.stop or ray.get(self.reply), None
        if self.reply is None and time.monotonic() - self.asked > ASK_EVERY:
            self.reply, self.asked = self.mail.should_stop.remote(), time.monotonic()
        return self.stop


def run_learner(config: dict[str, Any]) -> None:
    """The function of each learner's process in the group."""
    import ray
    from ray import train

    from ray_jobs.rl.learning.setup import generator, prepare  # which imports this module

    torch.set_num_threads(1)
    learn_of(config["entry"])
    mail = config["mailbox"]
    step, state = ray.get(config["from"])
    rank, device = dist.get_rank(), torch.device(config["device"])
    driver = DriverProxy(mail, rank)
    driver.send("begins", step)
    world = DistributedWorld(generator(config["seed"], rank), device)

    def report_failure(error: Exception) -> None:
        ray.get(mail.put.remote({"failed": (type(error), str(error))}))

    def end(error: EnvironmentFailed) -> None:
        report_failure(error)
        os._exit(1)

    failures.on_hang = end  # Ray Train runs this function in another thread than the main one
    try:
        training = prepare(
            config["recipe"],
            config["seed"],
            world,
            config["runners"],
            driver,
            driver.report,
            driver.should_stop,
            str(device),
        )
        result = training.go(state, trusted=step > config["first_step"])
    except (FloatingPointError, UsageError, EnvironmentFailed, Lost) as error:
        report_failure(error)
        raise
    if rank == 0:
        ray.get(mail.put.remote({"result": result}))
    train.report({})


def train_group(
    config: dict[str, Any],
    learners: int,
    run: Recorder,
    resume: Mapping[str, Any] | None,
    report: Report,
    should_stop: Callable[[], bool],
    allowed: int,
) -> dict[str, float]:
    """Train with several learners in one Ray Train group; this process writes what the first learner sends.

    Raises:
        FloatingPointError, UsageError, EnvironmentFailed: as `play.play`, on any of the learners.
        Lost: learners died more often than `allowed`, or found no free CPUs.
    """
    ray = connect(None)
    folder = os.path.abspath(getattr(run, "path", None) or tempfile.mkdtemp(prefix="reprise-"))
    driver = GroupDriver(run, report, allowed, resume)
    learners_group = Group(
        run_learner, f"{folder}/learners", config["device"] != "cpu", driver.on_event, report, should_stop
    )
    first_step = driver.saved

    def attempt() -> Exception | None:
        start = {"first_step": first_step, "from": ray.put((driver.saved, driver.state))}
        ended = learners_group.run_once(learners, config | start)
        return None if driver.failed else ended

    ended = restart_on_failure(attempt, driver.on_death, allowed)
    if driver.failed:
        kind, why = driver.failed
        raise kind(why)
    if ended:
        raise driver.last_error(ended)
    return driver.result or {"env_steps": float(driver.saved)}  # it was stopped before any learner had a CPU


class GroupDriver:
    """The driver's side of a group of learners: writes their metrics and checkpoints, and counts their deaths."""

    def __init__(self, run: Recorder, report: Report, allowed: int, resume: Mapping[str, Any] | None) -> None:
        self.run, self.report, self.allowed = run, report, allowed
        self.saved, self.state = (resume["step"], resume) if resume else (0, None)
        self.deaths, self.last_death = 0, ""
        self.failed: tuple[type[Exception], str] | None = None
        self.result: dict[str, float] | None = None

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Call `on_KIND` with the content of each part of an event."""
        for kind, content in event.items():
            getattr(self, f"on_{kind}")(content)

    def on_log(self, content: Any) -> None:
        """Log (step, metrics)."""
        self.run.log(*content)

    def on_save(self, content: Any) -> None:
        """Save (step, state). Learners do not write to the disk, so a full disk is noticed here."""
        self.saved, self.state = content
        save(self.run, *content, self.report)

    def on_report(self, content: Any) -> None:
        """Pass on an event."""
        self.report(*content)

    def on_note(self, content: Any) -> None:
        """Pass on a line of text."""
        self.report({"note": content[0]})

    def on_begins(self, content: Any) -> None:
        """A learner starts from a step: metrics that were logged after it will be logged again."""
        if self.last_death:
            self.run.rewind(content[0])

    def on_failed(self, content: tuple[type[Exception], str]) -> None:
        """Keep the first error (class, message) that a restart cannot mend."""
        self.failed = self.failed or content

    def on_result(self, content: dict[str, float]) -> None:
        """Keep the result's metrics."""
        self.result = content

    def on_death(self, causes: Mapping[int, str], deaths: int) -> None:
        """Report which learner died, and from where all continue."""
        self.deaths, self.last_death = deaths, who_died(causes, "learner")
        if deaths <= self.allowed:
            count = f"death {deaths} of {self.allowed} allowed"
            self.report({"note": f"{self.last_death}; all learners continue from step {self.saved} ({count})"})

    def last_error(self, ended: Exception) -> Exception:
        """The error to raise for the one that ended Ray Train."""
        if self.deaths <= self.allowed:
            return ended
        often = f"{self.deaths} times, more often than --max_failures allows"
        return Lost(
            f"Learners died {often}; at last {self.last_death}: 'reprise resume' continues from step {self.saved}."
        )
