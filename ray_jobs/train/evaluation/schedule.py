"""Evaluation on a schedule during training (`--eval_every`), and the checkpoint that it finds to be the best.

At a step that is due the run is saved, and a second model with the averaged weights is measured exactly as `reprise evaluate` would
measure that checkpoint. Nothing that is trained is touched. A run that was stopped before the evaluation was logged makes it up
when it continues.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import lightning as L
import torch
from lightning.pytorch.utilities.seed import isolate_rng

from lightning_modules.ema import EMA
from lightning_modules.model import Generative
from ray_jobs.recipe.spec import Spec
from ray_jobs.run.folder import Run
from ray_jobs.run.progress import Report, brief
from ray_jobs.train import start
from ray_jobs.train.evaluation.best import best, judge
from ray_jobs.train.evaluation.images import Interrupted, Share

Measure = Callable[[Generative, Share], dict[str, float]]


class Recorder(Protocol):
    """Writes checkpoints, and stops the training."""

    stopped: bool

    def save(self, trainer: L.Trainer) -> None:
        """Checkpoint this step, once."""
        ...


class Scheduled(L.Callback):
    """Measures the averaged weights every so many steps.

    Args:
        run, report: of the training.
        every, steps: between evaluations, and of the whole training, whose last step is measured when it has ended.
        recorder: which saves; it must come before this callback.
        build: makes the model that is measured, with any weights.
        measure: its metrics; of one process of several, those that it has.
        should_stop: asked between the parts of an evaluation.
    """

    def __init__(
        self,
        run: Run,
        report: Report,
        spec: Spec,
        *,
        every: int,
        steps: int,
        recorder: Recorder,
        build: Callable[[], Generative],
        measure: Measure,
        should_stop: Callable[[], bool],
    ) -> None:
        self.run, self.report, self.every, self.steps = run, report, every, steps
        self.recorder, self.build, self.measure, self.should_stop = recorder, build, measure, should_stop
        self.judge = judge(spec)
        self.step, self.copy = 0, None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Make up the evaluation that a stop has prevented."""
        self.step = trainer.global_step
        self.run.best = found.step if (found := best(self.run)) else None
        missing = not any(line["step"] == self.step and self._value(line) for line in self.run.metrics())
        if trainer.world_size > 1:
            missing = trainer.strategy.broadcast(missing)
        if self.step and self._due() and missing:
            self._evaluate(trainer, pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Save and measure, at a step that is due."""
        if trainer.global_step == self.step:  # a micro-batch inside one global batch
            return
        self.step = trainer.global_step
        if self._due() and not self.recorder.stopped:
            self.recorder.save(trainer)
            self._evaluate(trainer, pl_module)

    def _due(self) -> bool:
        return self.step % self.every == 0 and self.step < self.steps

    def _value(self, found: dict[str, Any]) -> tuple[str, float] | None:
        return self.judge.value(found) if self.judge else None

    def _evaluate(self, trainer: L.Trainer, model: L.LightningModule) -> None:
        try:
            with isolate_rng():
                found = self.measure(self._averaged(trainer, model), self._share(trainer))
        except Interrupted:
            self.recorder.stopped = trainer.should_stop = True
            return
        finally:
            if self.copy is not None:
                self.copy.to("cpu")
        if trainer.is_global_zero:
            self.run.log(self.step, found)
            value = self._value(found)
            self.report({"note": f"step {self.step}: " + (f"{value[0]} {brief(value[1])}" if value else "measured")})
            leader = best(self.run)
            self.run.best = leader.step if leader else None

    def _averaged(self, trainer: L.Trainer, model: L.LightningModule) -> Generative:
        """The second model, with the weights that this step's checkpoint is measured with."""
        self.copy = self.copy or self.build()
        averages = {c.state_key: c.state_dict() for c in trainer.callbacks if isinstance(c, EMA)}  # type: ignore[attr-defined]
        self.copy.load_state_dict(start.averaged({"state_dict": model.state_dict(), "callbacks": averages}))
        return self.copy.eval().to(model.device)

    def _share(self, trainer: L.Trainer) -> Share:
        if trainer.world_size == 1:
            return Share(stopped=self.should_stop)
        strategy = trainer.strategy

        def gather(x: torch.Tensor) -> torch.Tensor:
            return strategy.all_gather(x.to(strategy.root_device)).flatten(0, 1).cpu()

        def stopped() -> bool:
            return bool(strategy.reduce_boolean_decision(self.should_stop(), all=False))

        return Share(trainer.global_rank, trainer.world_size, gather, stopped)
