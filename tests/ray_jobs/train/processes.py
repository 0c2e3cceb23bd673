"""Processes that draw, hold every kind of value, or misbehave, and their recipes: for tests of the engine of studies."""

import functools
import os
import signal
import sys
import time
from dataclasses import dataclass

import numpy as np

from ray_jobs.recipe import Claim, Headline, Recipe, Study
from ray_jobs.tabular.planning import swept


def drawn(seed, step, shard):
    """Three numbers that depend on (seed, step, shard) alone."""
    return np.random.Generator(np.random.Philox(key=[seed, (step << 32) + shard])).normal(size=3)


def deadly(shard):
    """End the worker."""
    os.kill(os.getpid(), signal.SIGKILL)


def imported(process, shard):
    """What this process has imported of the heavy packages, once it has computed a shard of value iteration."""
    swept(process, 0, np.zeros(64), shard)
    return sorted({"torch", "lightning"} & set(sys.modules))


@dataclass(frozen=True)
class Walk:
    """A random walk; its state holds an array of each kind, a tensor and plain numbers."""

    scale: float = 1.0
    """Size of a step."""
    shards: int = 5
    """Parts of the walk."""
    pause: float = 0.0
    """Seconds that a step takes."""
    fault: str = ""
    """What goes wrong in the fourth step: die, list, or nothing."""

    unit = "step"

    def __post_init__(self):
        if self.scale < 0:
            raise ValueError("--scale must be at least 0.")

    def begin(self, seed):
        import torch

        names = {"at": np.zeros((self.shards, 3)), "visits": np.zeros(4, np.uint8), "up": np.zeros(2, bool)}
        return names | {"mean": torch.zeros(3), "far": 0.0, "count": 0, "ever": False}

    def advance(self, state, step, seed, crew):
        time.sleep(self.pause)
        moves = crew.map(
            deadly if self.fault == "die" and step == 3 else functools.partial(drawn, seed, step), range(self.shards)
        )
        state["at"] = state["at"] + self.scale * np.stack(moves)
        state["visits"][step % 4] += 1
        state["up"][:] = state["at"][:2, 0] > 0
        state["mean"].lerp_(state["mean"].new_tensor(state["at"].mean(0)), 0.1)
        state["far"], state["count"], state["ever"] = float(abs(state["at"]).max()), state["count"] + 1, True
        if self.fault == "list" and step == 3:
            state["far"] = [1.0]
            return {"far": 1.0}
        return {"far": state["far"]}

    def result(self, state, seed, crew):
        return {"far": state["far"], "again": float(np.sum(crew.map(functools.partial(drawn, seed, 0), range(2))))}

    def pictures(self, state, folder):
        (folder / "walk.png").write_bytes(b"drawn")


walk = Recipe(
    "A random walk.",
    Study("tests.ray_jobs.train.processes:Walk", steps=40, save_every=7, log_every=3),
    system="walk",
    data="none",
    headline=Headline("Nobody"),
    claim=Claim("far", at_least=0.0, seeds=1),
)
