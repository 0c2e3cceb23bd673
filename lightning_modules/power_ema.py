"""Averages of the weights by power functions of the step, and the average of any width made of their snapshots after training.

Source: Karras et al. 2024, arXiv:2312.02696, section 3, eq. 108 to 127 and algorithms 2 and 3.
Differs: a step has length 1, so the time t is the number of optimiser steps done; snapshots keep the precision of the weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from lightning_modules.compat import lerp_
from lightning_modules.ema import averaged_weights, matched

WIDEST = 12**-0.5
"""The width of the mean of all weights, whose exponent is 0; all widths are below it."""
Keep = Callable[[int, Mapping[str, Any]], object]
"""(optimiser step, state of the averages) -> keeps a snapshot."""


def width_of(exponent: float) -> float:
    """The standard deviation of the power function of this exponent, relative to the time t; eq. 123."""
    return math.sqrt((exponent + 1) / ((exponent + 2) ** 2 * (exponent + 3)))


def exponent_of(width: float) -> float:
    """The exponent gamma > 0 of a relative standard deviation: the inverse of `width_of`; algorithm 2.

    Raises:
        ValueError: the width is not between 0 and `WIDEST`.
    """
    if not 0 < width < WIDEST:
        raise ValueError(
            f"The width of a power-function average must be above 0 and below {WIDEST:.4f}, not {width:g}."
        )
    t = width**-2
    return float(np.roots([1, 7, 16 - t, 12 - t]).real.max())


def decay(step: int, exponent: float) -> float:
    """beta: the share of the average that is left at optimiser step `step`, counted from 1; eq. 127."""
    return (1 - 1 / step) ** (exponent + 1)


def correlation(time: Tensor, exponent: Tensor, other_time: Tensor, other_exponent: Tensor) -> Tensor:
    """The inner product of two profiles, (exponent + 1) s^exponent / time^(exponent + 1) on 0 < s < time; algorithm 3.

    All arguments broadcast, float64.
    """
    first = time <= other_time
    ratio = torch.where(first, time / other_time, other_time / time)
    later = torch.where(first, other_exponent, exponent)
    longest = torch.maximum(time, other_time)
    return (exponent + 1) * (other_exponent + 1) * ratio**later / ((exponent + other_exponent + 1) * longest)


def coefficients(kept: Sequence[tuple[int, float]], time: int, width: float) -> Tensor:
    """The weights [N], of sum 1, with which snapshots make up the average of `width` at `time`: the least squares of algorithm 3.

    Args:
        kept: time and width of each of N snapshots; no time is after `time`.
    """
    times = torch.tensor([float(t) for t, _ in kept], dtype=torch.float64)
    exponents = torch.tensor([exponent_of(w) for _, w in kept], dtype=torch.float64)
    goal = torch.tensor([float(time), exponent_of(width)], dtype=torch.float64)
    among = correlation(times[:, None], exponents[:, None], times, exponents)
    with_goal = correlation(times, exponents, *goal)
    found = torch.linalg.lstsq(among, with_goal[:, None], driver="gelsd").solution[:, 0]
    return found / found.sum()


def reconstructed(states: Sequence[Mapping[str, Any]], width: float) -> dict[str, Tensor]:
    """The average of `width` at the time of the last of these states of a `PowerEMA`.

    Args:
        states: of one training, oldest first; those that began at another step than the last are left out.

    Raises:
        ValueError: the width is not between 0 and `WIDEST`.
    """
    last = states[-1]
    ours = [state for state in states if state["began"] == last["began"] and state["steps"] > 0] or [last]
    kept = [(s["steps"], w, average) for s in ours for w, average in zip(s["widths"], s["averages"], strict=True)]
    shares = coefficients([(max(t, 1), w) for t, w, _ in kept], max(last["steps"], 1), width)
    sums = {name: torch.zeros_like(weight, dtype=torch.float64) for name, weight in kept[0][2].items()}
    for share, (_, _, average) in zip(shares.tolist(), kept, strict=True):
        for name, total in sums.items():
            total.add_(average[name].to(total), alpha=share)
    return {name: total.to(kept[0][2][name].dtype) for name, total in sums.items()}


class PowerEMA(L.Callback):
    """Averages of the weights by power functions, one for each width; they begin as the weights after the first step.

    After the n-th optimiser step: average += (1 - beta) (weights - average), beta = (1 - 1 / n)^(exponent + 1).

    Args:
        widths: relative standard deviations; the paper's are 0.05 and 0.10.
        every: optimiser steps between snapshots.
        keep: keeps a snapshot; it is called on the first worker.

    Raises:
        ValueError: there is no width, one is out of range, or the state loaded is that of another model or of other widths.
    """

    state_key = "PowerEMA"

    def __init__(self, widths: Sequence[float], every: int, keep: Keep) -> None:
        if not widths:
            raise ValueError("Power-function averages need at least one width.")
        self.widths, self.exponents = list(widths), [exponent_of(width) for width in widths]
        self.every, self.keep = every, keep
        self.steps, self.began = 0, 0
        self.averages: list[dict[str, Tensor]] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        own = averaged_weights(pl_module)
        if not self.averages:
            self.averages = [{k: p.detach().clone() for k, p in own.items()} for _ in self.widths]
        self.averages = [matched(of, pl_module) for of in self.averages]
        self._weights: list[Tensor] = list(own.values())
        self._seen = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step > self._seen:  # a micro-batch that only adds to the gradient moves nothing
            self._seen = trainer.global_step
            self.update()
            if self._seen % self.every == 0 and trainer.is_global_zero:
                self.keep(self._seen, self.state_dict())

    @torch.no_grad()
    def update(self) -> None:
        """Move the averages towards the weights that are trained, once per optimiser step."""
        self.steps += 1
        for average, exponent in zip(self.averages, self.exponents, strict=True):
            lerp_(list(average.values()), self._weights, 1 - decay(self.steps, exponent))

    def restart(self, weights: Mapping[str, Tensor], step: int) -> None:
        """Begin again after optimiser step `step`, so that no weights of before count."""
        self.steps, self.began = 0, step
        for average in self.averages:
            for name, value in average.items():
                value.copy_(weights[name])

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "began": self.began, "widths": self.widths, "averages": self.averages}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if list(state_dict["widths"]) != self.widths:
            raise ValueError(
                f"The checkpoint holds averages of the widths {state_dict['widths']}, and now they are {self.widths}."
            )
        self.steps, self.began = state_dict["steps"], state_dict["began"]
        self.averages = [dict(of) for of in state_dict["averages"]]
