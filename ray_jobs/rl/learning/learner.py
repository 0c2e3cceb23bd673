"""The learner: an agent with its optimisers and all that training it accumulates."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ray_jobs.rl.contract import Algorithm, Fresh, Gradient, Gradients, Replay, Steps, World
from ray_jobs.rl.fast.matmul import Matmul, arithmetic, check_matmul
from ray_jobs.rl.fast.recorded import recorded_calls
from ray_jobs.rl.replay.buffer import ReplayBuffer
from ray_jobs.rl.rollout.fragments import Fragment, tensors
from ray_jobs.rl.rollout.normalise import RewardScale, moments
from ray_jobs.rl.rollout.runner import ActingAgent
from ray_jobs.run.memory import keep_freed


def source(fragments: Sequence[Fragment]) -> str:
    """The name of the runners whose columns the joined fragments have."""
    return ",".join(str(f.index) for f in fragments)


def restarted_columns(fragments: Sequence[Fragment]) -> Tensor:
    """[B] bool: the columns of runners that restarted, in the order of the joined fragments."""
    return torch.cat([torch.full((f.steps[3].shape[1],), f.begins) for f in fragments])


class Learner:
    """One learner: agent, optimisers, replay buffer and running moments, which are what a checkpoint holds.

    Args:
        world: the other learners, a generator and the progress.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        actor: ActingAgent,
        world: World,
        *,
        envs: int,
        normalize_reward: bool,
        device: torch.device,
        matmul: Matmul = "float32",
    ) -> None:
        keep_freed()
        check_matmul(matmul, device)
        self.matmul = matmul
        self.algorithm, self.actor, self.world, self.device = algorithm, actor.to(device), world, device
        self.optimizers = algorithm.optimizers(actor.agent)
        self.scale = RewardScale(algorithm.gamma).to(device) if normalize_reward else None
        self.plan = plan = algorithm.experience
        self.buffer = ReplayBuffer(plan, envs, algorithm.gamma) if isinstance(plan, Replay) else None
        self.version, self.pending_updates = 0, 0.0
        self.largest = max((p.numel() for p in actor.parameters()), default=0) if device.type == "cpu" else 0
        """Entries of the largest weight, of all seeds that train together, for `arithmetic`."""
        self.kept: list[Steps] = []
        """Data of the updates since the last reflection."""

    def learn(self, fragments: Sequence[Fragment], seen: int) -> dict[str, Tensor]:
        """Update by new fragments.

        Args:
            seen: steps of all learners so far.

        Returns:
            What to log; empty where no update was due.
        """
        with self.arithmetic():
            if not isinstance(self.plan, Gradients):
                return self.learn_from(tensors(fragments, self.device), fragments, seen)
            self.version += 1
            return self.apply(fragments[0])

    def arithmetic(self) -> AbstractContextManager[None]:
        """The context of an update: how matrix products are computed."""
        return arithmetic(self.matmul, self.largest)

    def learn_from(self, data: Steps, fragments: Sequence[Fragment], seen: int) -> dict[str, Tensor]:
        """Update by the steps of the fragments, which `data` holds joined."""
        if any(f.begins for f in fragments):
            self.restart_columns(source(fragments), restarted_columns(fragments))
        stats = self.replay(data, fragments, seen) if self.buffer is not None else self.improve(data)
        self.observe(data, fragments)
        self.version += 1
        return stats

    def restart_columns(self, source: str, columns: Tensor) -> None:
        """In these columns [B] bool of a source the next step does not follow the last one: sum nothing over that point."""
        if self.buffer is not None:
            self.buffer.cut(source, columns)
        if self.scale:
            self.scale.restart(source, columns)

    def update(self, data: Any) -> dict[str, Tensor]:
        """One update of the algorithm."""
        with recorded_calls():
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
                with recorded_calls():
                    stats |= self.algorithm.reflect(self.actor.agent, self.optimizers, self.kept, self.world)
                self.kept = []
        return stats

    def replay(self, data: Steps, fragments: Sequence[Fragment], seen: int) -> dict[str, Tensor]:
        """Make as many updates from the buffer as are due for the new steps; none before the warm-up is over."""
        plan, stats = self.plan, {}
        self.buffer.add(data, source(fragments))
        if seen < plan.warmup:
            return stats
        if plan.newest:
            stats = self.update(self.normalised(data))
        self.pending_updates += data.terminated.numel() * self.world.size / plan.every * plan.updates
        due, self.pending_updates = int(self.pending_updates), self.pending_updates % 1
        for batch in self.buffer.batches(due, self.world.rng, self.world.progress):
            stats = self.update(self.normalised(batch))
            if plan.priority:
                self.buffer.set_priorities(stats.pop("priority"))
        return stats

    def normalised(self, data: Any) -> Any:
        """Steps or Transitions with observations and rewards normalised, by the moments that the runners acted with."""
        norm, also = self.actor.norm, "last_obs" if isinstance(data, Steps) else "next_obs"
        if norm:
            data = data._replace(**{"obs": norm(data.obs), also: norm(getattr(data, also))})
        return data._replace(reward=self.scale(data.reward)) if self.scale else data

    def observe(self, data: Steps, fragments: Sequence[Fragment]) -> None:
        """Add the new steps to the running moments, after learning from them."""
        if self.actor.norm:
            rows = data.obs[1:].flatten(0, 1)
            self.actor.norm.add(moments(rows, self.world.mean, self.world.size))
        if self.scale:
            returns = self.scale.returns(source(fragments), data.reward, data.boundary).flatten()
            self.scale.moments.add(moments(returns, self.world.mean, self.world.size))

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint, in tensors and plain types. 'owed' is the checkpoint's name for pending updates."""
        state = {
            "actor": self.actor.state_dict(),
            "optimizers": {k: o.state_dict() for k, o in self.optimizers.items()},
        }
        state |= {"version": self.version, "owed": self.pending_updates, "rng": self.world.rng.get_state()}
        if self.scale:
            state["scale"] = {"moments": self.scale.moments.state_dict(), "running": dict(self.scale.running)}
        state |= {"kept": [tuple(x._replace(extras=dict(x.extras))) for x in self.kept]}
        return state | ({"buffer": self.buffer.state()} if self.buffer is not None else {})

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state`."""
        self.actor.load_state_dict(state["actor"])
        for k, o in self.optimizers.items():
            o.load_state_dict(state["optimizers"][k])
        self.version, self.pending_updates = operator.index(state["version"]), float(state["owed"])
        on = self.device
        self.kept = [Steps(*(x.to(on) for x in s[:-1]), {k: x.to(on) for k, x in s[-1].items()}) for s in state["kept"]]
        self.world.rng.set_state(state["rng"])
        if self.scale:
            self.scale.moments.load_state_dict(state["scale"]["moments"])
            self.scale.running = {k: x.to(self.device) for k, x in state["scale"]["running"].items()}
        if self.buffer is not None:
            self.buffer.load(state["buffer"], self.device)
