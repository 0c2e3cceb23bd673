"""The learner: an agent with its optimisers and all that training it accumulates; alone, or one of several that share gradients."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from ray_jobs.envs.failures import EnvironmentFailed
from ray_jobs.on_ray import connect, mailbox, oversee
from ray_jobs.recipe import UsageError
from ray_jobs.rl.algorithm import Algorithm, Fresh, Gradient, Gradients, Replay, Steps, World
from ray_jobs.rl.fragments import Fragment, tensors
from ray_jobs.rl.memory import keep_freed
from ray_jobs.rl.normalise import RewardScale, moments
from ray_jobs.rl.replay import ReplayBuffer
from ray_jobs.rl.runner import Actor


@contextmanager
def without_denormals() -> Iterator[None]:
    """Numbers too small for a full mantissa count as 0: Adam's moments of units that are dead decay to them, and each is a hundred times
    as slow. In the learner alone, so that environments compute as elsewhere."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def source(fragments: Sequence[Fragment]) -> str:
    """Whose columns the joined fragments have."""
    return ",".join(str(f.index) for f in fragments)


class Learner:
    """One learner. `world` says who else there is; all its numbers live here, and are what a checkpoint holds."""

    def __init__(
        self,
        algorithm: Algorithm,
        actor: Actor,
        world: World,
        *,
        envs: int,
        normalize_reward: bool,
        device: torch.device,
    ) -> None:
        keep_freed()
        self.algorithm, self.actor, self.world, self.device = algorithm, actor.to(device), world, device
        self.optimizers = algorithm.optimizers(actor.agent)
        self.scale = RewardScale(algorithm.gamma).to(device) if normalize_reward else None
        self.plan = plan = algorithm.experience
        self.buffer = ReplayBuffer(plan, envs, algorithm.gamma) if isinstance(plan, Replay) else None
        self.version, self.owed = 0, 0.0
        self.kept: list[Steps] = []
        """What the updates since the last reflection saw."""

    @without_denormals()
    def learn(self, fragments: Sequence[Fragment], seen: int) -> dict[str, Tensor]:
        """Update by new fragments; `seen` counts all learners' steps so far. What to log; empty where no update was due."""
        if isinstance(self.plan, Gradients):
            stats = self.apply(fragments[0])
        else:
            data = tensors(fragments, self.device)
            stats = self.replay(data, fragments, seen) if self.buffer is not None else self.improve(data)
            self.observe(data, fragments)
        self.version += 1
        return stats

    def update(self, data: Any) -> dict[str, Tensor]:
        return self.algorithm.update(self.actor.agent, self.optimizers, data, self.world)

    def apply(self, fragment: Fragment) -> dict[str, Tensor]:
        """Update by the gradient that a runner sent."""
        flat = torch.from_numpy(np.array(fragment.gradient)).to(self.device)
        return self.update(Gradient(flat, {k: torch.as_tensor(x) for k, x in fragment.extras.items()}))

    def improve(self, data: Steps) -> dict[str, Tensor]:
        """Update by new steps; reflect on the last ones where that is due."""
        seen = self.normalised(data)
        stats = self.update(seen)
        if isinstance(self.plan, Fresh) and self.plan.keep:
            self.kept.append(seen)
            if len(self.kept) == self.plan.keep:
                stats |= self.algorithm.reflect(self.actor.agent, self.optimizers, self.kept, self.world)
                self.kept = []
        return stats

    def replay(self, data: Steps, fragments: Sequence[Fragment], seen: int) -> dict[str, Tensor]:
        """As many updates from the buffer as the new steps earn; none before the warm-up is over."""
        plan, stats = self.plan, {}
        self.buffer.add(data, source(fragments))
        if seen < plan.warmup:
            return stats
        if plan.newest:
            stats = self.update(self.normalised(data))
        self.owed += data.terminated.numel() * self.world.size / plan.every * plan.updates
        while self.owed >= 1:
            self.owed -= 1
            stats = self.update(self.normalised(self.buffer.sample(self.world.rng, self.world.progress)))
            if plan.priority:
                self.buffer.reweigh(stats.pop("priority"))
        return stats

    def normalised(self, data: Any) -> Any:
        """Steps or Transitions as the networks are to see them, by the numbers that the runners acted with."""
        norm, also = self.actor.norm, "last_obs" if isinstance(data, Steps) else "next_obs"
        if norm:
            data = data._replace(**{"obs": norm(data.obs), also: norm(getattr(data, also))})
        return data._replace(reward=self.scale(data.reward)) if self.scale else data

    def observe(self, data: Steps, fragments: Sequence[Fragment]) -> None:
        """Take the new steps into the running moments, after they were learned from."""
        if self.actor.norm:
            rows = data.obs[1:].flatten(0, 1)
            self.actor.norm.add(moments(rows, self.world.mean, self.world.size))
        if self.scale:
            returns = self.scale.returns(source(fragments), data.reward, data.boundary).flatten()
            self.scale.moments.add(moments(returns, self.world.mean, self.world.size))

    def state(self) -> dict[str, Any]:
        """Tensors and plain types."""
        state = {
            "actor": self.actor.state_dict(),
            "optimizers": {k: o.state_dict() for k, o in self.optimizers.items()},
        }
        state |= {"version": self.version, "owed": self.owed, "rng": self.world.rng.get_state()}
        if self.scale:
            state["scale"] = {"moments": self.scale.moments.state_dict(), "running": dict(self.scale.running)}
        state |= {"kept": [tuple(x._replace(extras=dict(x.extras))) for x in self.kept]}
        return state | ({"buffer": self.buffer.state()} if self.buffer is not None else {})

    def load(self, state: Mapping[str, Any]) -> None:
        self.actor.load_state_dict(state["actor"])
        for k, o in self.optimizers.items():
            o.load_state_dict(state["optimizers"][k])
        self.version, self.owed = state["version"], state["owed"]
        on = self.device
        self.kept = [Steps(*(x.to(on) for x in s[:-1]), {k: x.to(on) for k, x in s[-1].items()}) for s in state["kept"]]
        self.world.rng.set_state(state["rng"])
        if self.scale:
            self.scale.moments.load_state_dict(state["scale"]["moments"])
            self.scale.running = {k: x.to(self.device) for k, x in state["scale"]["running"].items()}
        if self.buffer is not None:
            self.buffer.load(state["buffer"], self.device)


@dataclass
class Together:
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
    """The first learner's end of the mailbox; the others' sends nothing."""

    def __init__(self, mail: Any, rank: int) -> None:
        self.mail, self.first, self.reply = mail, rank == 0, None

    def send(self, kind: str, *content: Any) -> None:
        if self.first:
            self.reply = self.mail.put.remote({kind: content})

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.send("log", step, metrics)

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        self.send("save", step, state)

    def report(self, event: Mapping[str, Any]) -> None:
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

    from ray_jobs.rl.runtime import generator, prepare

    torch.set_num_threads(1)
    mail = config["mailbox"]
    kept = ray.get(mail.latest.remote())
    if kept["failed"]:  # it would fail again: Ray starts a group anew whatever the reason
        return
    rank, device = dist.get_rank(), torch.device(config["device"])
    sender = Sender(mail, rank)
    world = Together(generator(config["seed"], rank), device)
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
    try:
        result = training.go(kept["save"] and kept["save"][1])
    except (FloatingPointError, UsageError, EnvironmentFailed) as error:
        ray.get(mail.put.remote({"failed": (type(error), str(error))}))
        raise
    if rank == 0:
        ray.get(mail.put.remote({"result": result}))
    train.report({})


def group(
    config: dict[str, Any], learners: int, run: Any, resume: Any, report: Any, should_stop: Any, failures: int = 3
) -> dict[str, float]:
    """Train with several learners in one Ray Train group; this process records what the first of them says.

    Raises:
        FloatingPointError, UsageError, EnvironmentFailed: as `runtime.play`, on any of the learners.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    ray = connect(None)
    mail = mailbox(ray, {"save": resume and (0, resume), "failed": None})
    folder = str(getattr(run, "path", None) or tempfile.mkdtemp(prefix="reprise-"))
    trainer = TorchTrainer(
        worker,
        train_loop_config=config | {"mailbox": mail},
        scaling_config=ScalingConfig(num_workers=learners, use_gpu=config["device"] != "cpu"),
        run_config=RunConfig(
            name="learners", storage_path=os.path.abspath(folder), failure_config=FailureConfig(max_failures=failures)
        ),
    )
    said: dict[str, Any] = {}
    recorders = {"log": run.log, "save": run.save, "report": report}

    def hear(event: dict[str, Any]) -> None:
        for kind, content in event.items():
            if kind in recorders:
                recorders[kind](*content)
            else:
                said.setdefault(kind, content)

    ended = oversee(trainer, mail, hear, report, should_stop)
    if "failed" in said:
        kind, why = said["failed"]
        raise kind(why)
    if ended:
        raise ended
    return said["result"]
