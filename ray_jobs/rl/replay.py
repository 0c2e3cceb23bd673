"""A replay buffer: a ring of transitions in tensors, sampled uniformly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ray_jobs.rl.algorithm import Steps, Transitions


def transitions(data: Steps) -> Transitions:
    """Every step [T, B] by itself [T * B], with its true next observation."""
    after = data.obs[1:].clone()
    if len(data.last_obs):
        after[data.truncated] = data.last_obs
    columns = (data.obs[:-1], data.action, data.reward, after, data.terminated)
    return Transitions(*(x.flatten(0, 1) for x in columns), {k: x.flatten(0, 1) for k, x in data.extras.items()})


def columns(data: Transitions) -> dict[str, Tensor]:
    """The tensors by name, extras as 'extras.NAME'."""
    plain = {k: getattr(data, k) for k in Transitions._fields[:-1]}
    return plain | {f"extras.{k}": x for k, x in data.extras.items()}


class ReplayBuffer:
    """The newest `capacity` transitions; whoever samples brings the generator."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.seen = capacity, 0
        self.data: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return min(self.seen, self.capacity)

    def add(self, data: Steps) -> None:
        """Store all steps, over the oldest ones where it is full."""
        new = {k: x[-self.capacity :] for k, x in columns(transitions(data)).items()}
        n = len(new["reward"])
        at = torch.arange(self.seen, self.seen + n, device=new["reward"].device) % self.capacity
        for k, x in new.items():
            if k not in self.data:
                self.data[k] = x.new_zeros((self.capacity, *x.shape[1:]))
            self.data[k][at] = x
        self.seen += n

    def sample(self, n: int, rng: torch.Generator) -> Transitions:
        """n transitions, drawn with replacement."""
        at = torch.randint(len(self), (n,), generator=rng)
        taken = {k: x[at.to(x.device)] for k, x in self.data.items()}
        extras = {k.removeprefix("extras."): taken.pop(k) for k in list(taken) if k.startswith("extras.")}
        return Transitions(**taken, extras=extras)

    def state(self) -> dict[str, Any]:
        """What is filled, as tensors."""
        return {"seen": self.seen, "data": {k: x[: len(self)] for k, x in self.data.items()}}

    def load(self, state: Mapping[str, Any], device: torch.device) -> None:
        self.seen = state["seen"]
        for k, x in state["data"].items():
            self.data[k] = x.new_zeros((self.capacity, *x.shape[1:]), device=device)
            self.data[k][: len(x)] = x.to(device)
