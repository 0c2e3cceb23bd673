"""Stages within one run: a teacher and then its student, an autoencoder and then the prior of its latents.

Large runs train the same parts one run after another, each started from the one before (`start.load_parts`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from lightning_modules.conditions import Cond
from lightning_modules.ema import EMA, averaged_weights
from lightning_modules.model import Batch, Generative, Samples
from lightning_modules.power_ema import PowerEMA
from lightning_modules.start import load_parts

HandOver = Callable[[nn.Module], None]
"""Changes the parts of a `Staged` model in place, such as by copying weights; a pure function of its weights, its seed and its data."""


@dataclass(frozen=True)
class Stage:
    """One part of a staged model and its training."""

    name: str
    """Of the part: its attribute in the staged model, and the prefix of its weights' names."""
    model: Generative
    """The part. Its `losses` and `configure_optimizers` are used; its other hooks are not called."""
    steps: int
    """Optimiser steps; 0 for a part whose weights come from another run, and never move."""
    hands_on: HandOver | None = None
    """What is copied to later parts when the stage ends, such as `copy_weights(("teacher.net", "student.net"))`."""


def copy_weights(*pairs: tuple[str, str]) -> HandOver:
    """The hand-over that copies all weights and buffers of submodules (source, destination), given by their paths.

    Raises (when it is called):
        ValueError: there is no such destination, or its weights have other names or shapes.
    """

    def copy(model: nn.Module) -> None:
        load_parts(model, {to: model.get_submodule(source).state_dict() for source, to in pairs})

    return copy


class Staged(Generative):
    """Parts that are trained one after another: part k on the steps K_k to K_{k+1} - 1, while all others are frozen.

    At a boundary the finished part takes its averaged weights for its own (where the run keeps an average), hands weights on,
    and the average starts again from the weights. All of this depends only on the step and on what a checkpoint holds, so
    that a resumed run is exact. There is one optimiser; each part has its own parameter group and learning-rate schedule,
    which starts with its stage. A later part may hold an earlier one, but its optimiser must not: a prior moves only its own
    weights. The last part is the one that is sampled.

    Args:
        stages: in their order.

    Raises:
        ValueError: there is no stage, a name is taken, a number of steps is negative, or parts have optimisers of different
            classes or with schedules other than factors of the learning rate (`LambdaLR`).
    """

    def __init__(self, stages: tuple[Stage, ...]) -> None:
        super().__init__()
        if not stages:
            raise ValueError("A staged model needs at least one stage.")
        for stage in stages:
            if stage.steps < 0:
                raise ValueError(f"The stage '{stage.name}' has {stage.steps} steps; it must have 0 or more.")
            if hasattr(self, stage.name):
                raise ValueError(f"A stage cannot be called '{stage.name}': the name is taken.")
            self.add_module(stage.name, stage.model)
        for stage in stages[:-1]:
            if not stage.steps:
                stage.model.requires_grad_(False)
        self.stages, self.ends = stages, list(accumulate(stage.steps for stage in stages))
        self.shape = self.last.shape
        self.current = 0
        """Index of the stage in training."""
        self._groups: list[list[nn.Parameter]] = []

    def prepare(self, seed: int, *, accumulate: int = 1, grad_clip: float = 0.0) -> None:
        """Set what the model and its parts must know of their training."""
        super().prepare(seed, accumulate=accumulate, grad_clip=grad_clip)
        for stage in self.stages:
            stage.model.prepare(seed, accumulate=accumulate, grad_clip=grad_clip)

    @property
    def steps(self) -> int:
        """Optimiser steps of all stages together."""
        return self.ends[-1]

    @property
    def part(self) -> Generative:
        """The part in training."""
        return self.stages[self.current].model

    @property
    def last(self) -> Generative:
        """The last part, which is the one that is sampled."""
        return self.stages[-1].model

    @property
    def sampled(self) -> Generative:
        """The model that is sampled: the last part."""
        return self.last

    def stage_at(self, step: int) -> int:
        """Index of the stage to which an optimiser step, counted from 0, belongs; the last stage has no end."""
        return next((k for k, end in enumerate(self.ends) if step < end), len(self.stages) - 1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Those of the part in training."""
        self.part.draws = self.draws
        return self.part.losses(batch)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """The sum [] of the part's losses. DDP waits for a gradient of every weight, so the frozen ones then count with 0."""
        loss = super().training_step(batch, index)
        if self.trainer.world_size > 1:
            loss = loss + sum((0 * p.sum() for p in self._frozen() if p.requires_grad), torch.zeros_like(loss))
        return loss

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Begin a stage at its first step."""
        super().on_train_batch_start(batch, batch_idx)
        step = self.trainer.global_step
        if batch_idx % self.micro_batches == 0:
            for k, end in enumerate(self.ends[:-1]):
                if end == step:
                    self._finish(self.stages[k])
        if self.stage_at(step) != self.current:
            self.current = self.stage_at(step)
            self.train(self.training)

    @torch.no_grad()
    def _finish(self, stage: Stage) -> None:
        """Give the stage's part its averaged weights, hand weights on, and begin the average again."""
        averages = [c for c in self.trainer.callbacks if isinstance(c, EMA)]  # type: ignore[attr-defined]  # Trainer has it
        weights = averaged_weights(self)
        for ema in averages:
            for name, weight in weights.items():
                if name.startswith(f"{stage.name}."):
                    weight.copy_(ema.average[name])
        if stage.hands_on is not None:
            stage.hands_on(self)
        for ema in averages:
            ema.restart(weights)
        for power in (c for c in self.trainer.callbacks if isinstance(c, PowerEMA)):  # type: ignore[attr-defined]
            power.restart(weights, self.trainer.global_step)

    def logged(self) -> dict[str, float]:
        """Those of the part in training."""
        return self.part.logged()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Drop the gradients of frozen weights: the optimiser then neither moves them nor changes its state of them."""
        for weight in self._frozen():
            weight.grad = None
        super().on_before_optimizer_step(optimizer)

    def _frozen(self) -> list[nn.Parameter]:
        return [p for k, group in enumerate(self._groups) if k != self.current for p in group]

    def train(self, mode: bool = True) -> Staged:
        """As in torch, but parts that are frozen stay in evaluation mode, so that their buffers do not move.

        A part may hold an earlier one, such as a prior its autoencoder, and then changes its mode too: so the order matters.
        """
        super().train(mode)
        for stage in self.stages[self.current + 1 :]:
            stage.model.eval()
        self.part.train(mode)
        for stage in self.stages[: self.current]:
            stage.model.eval()
        return self

    def set_rate(self, lr: float | None, warmup: int | None) -> None:
        """Replace those of every part: the rate rises again at the beginning of each stage."""
        for stage in self.stages:
            stage.model.set_rate(lr, warmup)

    def configure_optimizers(self) -> Any:
        """One optimiser with a group for each part, made of the parts' own."""
        made = [_optimizer_and_factor(stage) for stage in self.stages]
        optimizer = made[0][0]
        for stage, (other, _) in zip(self.stages[1:], made[1:], strict=True):
            if type(other) is not type(optimizer):
                raise ValueError(
                    f"The parts of a staged model share one optimiser, but '{self.stages[0].name}' has "
                    f"{type(optimizer).__name__} and '{stage.name}' has {type(other).__name__}."
                )
            optimizer.add_param_group(other.param_groups[0])
        self._groups = [group["params"] for group in optimizer.param_groups]
        starts = [0, *self.ends[:-1]]
        factors = [_later(factor, start) for (_, factor), start in zip(made, starts, strict=True)]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factors), "interval": "step"}}

    def sample(self, n: int, cond: Tensor | Cond | None = None, *, rng: torch.Generator | None = None) -> Tensor:
        """Draws [n, *D] of the last part.

        Raises:
            TypeError: it cannot be sampled.
        """
        if not isinstance(self.last, Samples):
            raise TypeError(f"The last part, '{self.stages[-1].name}', cannot be sampled.")
        return self.last.sample(n, cond, rng=rng)

    def start(self, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Load weights of other runs into parts of this model; see `start.load_parts`."""
        load_parts(self, parts)


def _optimizer_and_factor(stage: Stage) -> tuple[torch.optim.Optimizer, Callable[[int], float]]:
    """The optimiser of a stage's part, and the factor of its learning rate after so many steps."""
    made: Any = stage.model.configure_optimizers()
    optimizer = made["optimizer"] if isinstance(made, dict) else made
    if not isinstance(optimizer, torch.optim.Optimizer) or len(optimizer.param_groups) != 1:
        raise ValueError(f"The part '{stage.name}' of a staged model must have one optimiser with one parameter group.")
    if not isinstance(made, dict) or "lr_scheduler" not in made:
        return optimizer, _one
    schedule = made["lr_scheduler"]["scheduler"]
    if not isinstance(schedule, LambdaLR):
        raise ValueError(f"The learning rate of the part '{stage.name}' must follow a LambdaLR.")
    return optimizer, schedule.lr_lambdas[0]


def _one(step: int) -> float:
    return 1.0


def _later(factor: Callable[[int], float], start: int) -> Callable[[int], float]:
    """The factor of a schedule that starts at the step `start`."""
    return lambda step: factor(max(0, step - start))
