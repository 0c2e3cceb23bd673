"""Thousands of runs of a bandit as one process: they are the rows of its arrays, shared out over a crew in shards of 1,000 runs."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_jobs.bandits import exact, replay
from ray_jobs.bandits.arms import Arms, Array, keys, read_arms
from ray_jobs.bandits.policies import Policy, Seen
from ray_jobs.bandits.runs import NORMAL_95, Moments, Part, recorded, shards
from ray_jobs.recipe.process import Crew, State, generator


class Simulated(Policy):
    """What makes a process of a policy; the fields are those of the policy's own dataclass."""

    means: str
    deviation: float
    data: str
    runs: int
    block: int

    unit = "block"
    exact_until = 100
    """Pulls up to which the exact regret of two arms is computed."""

    def begin(self, seed: int) -> State:
        """Nothing pulled yet.

        Raises:
            ValueError: the arms or the data cannot be; one sentence.
        """
        width = len(replay.read(self.data).names if self.data else read_arms(self.means, self.deviation).means)
        table = np.zeros((self.runs, width))
        curve = {"times": np.zeros(0, np.int64), "curve": np.zeros(0), "squares": np.zeros(0)}
        return {"counts": table, "sums": table.copy(), "regret": np.zeros(self.runs)} | curve

    def advance(self, state: State, step: int, seed: int, crew: Crew) -> dict[str, float]:
        """The next `block` pulls of all runs, or rows of the data."""
        work = functools.partial(replay.replayed if self.data else pulled, self, seed, step)
        parts, curves = zip(*crew.map(work, shards(state)), strict=True)
        for name in ("counts", "sums", "regret"):
            state[name] = np.concatenate([getattr(part, name) for part in parts])
        if self.data:
            return {"reward": float(state["sums"].sum() / max(state["counts"].sum(), 1))}
        whole = functools.reduce(Moments.__add__, curves)
        times = recorded(step * self.block, (step + 1) * self.block)
        for name, more in {"times": times, "curve": whole.mean, "squares": whole.squares}.items():
            state[name] = np.concatenate([state[name], more])
        return {"regret": float(whole.mean[-1])}

    def result(self, state: State, seed: int, crew: Crew) -> dict[str, float]:
        """regret with its 95% interval, slope and Lai-Robbins' constant; of two arms z, the errors between it and the exact regret.

        With data: the reward for each pull, as `replay.measured` has it.
        """
        if self.data:
            return replay.measured(replay.read(self.data), state["counts"], state["sums"])
        arms, curve = read_arms(self.means, self.deviation), curve_of(state)
        regret, error = float(curve.mean[-1]), float(curve.error[-1])
        best = state["counts"][:, int(np.argmax(arms.means))].sum() / state["counts"].sum()
        found = {
            "regret": regret,
            "regret_low": regret - NORMAL_95 * error,
            "regret_high": regret + NORMAL_95 * error,
            "best_arm": float(best),
            "lai_robbins": exact.lai_robbins(arms),
        }
        return found | slope_of(state["times"], curve.mean) | self._against_exact(arms, state["times"], curve)

    def _against_exact(self, arms: Arms, times: NDArray[np.int64], curve: Moments) -> dict[str, float]:
        known = exact_curve(self, arms, int(min(times[-1], self.exact_until)))
        if known is None:
            return {}
        at = int(np.searchsorted(times, len(known)))
        z = abs(curve.mean[at] - known[-1]) / curve.error[at] if curve.error[at] else math.inf
        return {"z": float(z), "exact_regret": float(known[-1]), "regret_there": float(curve.mean[at])}

    def pictures(self, state: State, folder: Path) -> None:
        """regret.png; with data, rewards.png."""
        from ray_jobs.bandits import pictures

        name = type(self).__name__
        if self.data:
            pictures.rewards(replay.read(self.data), state["counts"], state["sums"], name, folder / "rewards.png")
            return
        arms, curve = read_arms(self.means, self.deviation), curve_of(state)
        known = exact_curve(self, arms, int(min(state["times"][-1], self.exact_until)))
        pictures.regret(state["times"], curve.mean, curve.error, arms, known, name, folder / "regret.png")


def pulled(of: Simulated, seed: int, step: int, part: Part) -> tuple[Part, Moments]:
    """The runs of a shard after the next block of pulls, and their regret at the times of `recorded`."""
    arms, first = read_arms(of.means, of.deviation), step * of.block
    key, rng = keys(seed, part.first, len(part.regret)), generator(seed, step, part.first)
    counts, sums, regret = part.counts.copy(), part.sums.copy(), part.regret.copy()
    every, gaps, noted, curve = np.arange(len(regret)), arms.gaps, set(recorded(first, first + of.block)), []
    for pulls in range(first, first + of.block):
        arm = of.choose(Seen(counts, sums, pulls, of.deviation), rng)
        sums[every, arm] += arms.rewards(key, arm, counts[every, arm].astype(np.int64))
        counts[every, arm] += 1
        regret += gaps[arm]
        if pulls + 1 in noted:
            curve.append(regret.copy())
    return Part(part.first, counts, sums, regret), Moments.of(np.stack(curve))


def curve_of(state: State) -> Moments:
    """The regret at the recorded times, over all runs."""
    return Moments(len(state["regret"]), state["curve"], state["squares"])


def slope_of(times: NDArray[np.int64], mean: Array) -> dict[str, float]:
    """The growth of the regret for each unit of ln T over the last factor of ten in T, where there is one."""
    begin = int(np.searchsorted(times, times[-1] / 10))
    if times[begin] * 10 != times[-1]:
        return {}
    return {"slope": float((mean[-1] - mean[begin]) / math.log(10))}


@functools.cache
def exact_curve(of: Any, arms: Arms, pulls: int) -> Array | None:
    """`exact.expected_regret` of a policy, a frozen dataclass; None where it is not known."""
    if len(arms.means) != 2 or arms.deviation:
        return None
    try:
        return exact.expected_regret(of, arms, pulls)
    except NotImplementedError:
        return None
