"""What Lightning calls during a run: checkpoints into the run folder, metrics, progress, and the stop that was asked for."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from ray_jobs.errors import UsageError
from ray_jobs.recipe.plan import Fit
from ray_jobs.run.folder import Run
from ray_jobs.run.progress import Report

AGREE_EVERY = 10
"""Steps between two checks by all workers whether one of them must stop."""
LONG, REST = 5.0, 20
"""If writing a checkpoint takes over LONG seconds, write none for REST times as long: the slower the storage, the fewer checkpoints."""


class RunCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoints, kept by the run folder: whole or not at all, and a full disk ends no training.

    Args:
        state: the checkpoint to continue from, if there is one.
    """

    def __init__(self, run: Run, report: Report, state: dict[str, Any] | None) -> None:
        self.run, self.report, self.state, self.failed, self.taken = run, report, state, "", False

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint into the run folder; if that fails, report it and train on with the earlier ones."""
        step = checkpoint["global_step"]
        try:
            self.run.save(step, checkpoint)
            self.failed = ""
        except OSError as error:  # raising here would leave the other workers waiting at the barrier behind it
            self.failed = (
                f"The checkpoint of step {step} could not be written to {self.run}: {error.strerror or error}."
            )
            self.report({"note": f"{self.failed} Earlier ones are kept; training continues."})

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """The checkpoint to continue from, which was read already: not every file in the folder can be."""
        assert self.state is not None
        self.taken = True
        return self.state


class RunRecorder(L.Callback):
    """Lightning callback that writes metrics, status and checkpoints where they are due, and stops the training on request."""

    def __init__(self, run: Run, made: Fit, report: Report, should_stop: Callable[[], bool]) -> None:
        self.run, self.made, self.report, self.should_stop = run, made, report, should_stop
        self.step, self.reported, self.saved, self.stopped, self.rested = 0, 0.0, -1, False, 0.0
        self.started = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Keep the handler of SIGTERM that was set before Lightning's own."""
        self.on_sigterm = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: L.Trainer, model: L.LightningModule) -> None:
        """Restore the handler of SIGTERM, and start counting steps."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.on_sigterm)  # Lightning's own ends the training without our checkpoint
        self.step = self.saved = trainer.global_step
        self.began, self.began_at, self.started = time.monotonic(), self.step, True
        if trainer.world_size > 1:
            same = trainer.strategy.broadcast(self.step) == self.step
            if not trainer.strategy.reduce_boolean_decision(same, all=True):
                raise UsageError(
                    "The workers read checkpoints of different steps: one of them has a damaged copy. Resume the run again."
                )

    def on_train_batch_end(self, trainer: L.Trainer, model: L.LightningModule, *_: Any) -> None:
        """Report, save and stop where it is due, after each optimiser step."""
        step = trainer.global_step
        if step == self.step:  # a micro-batch inside one global batch
            return
        first, self.step = self.step == self.began_at, step
        last = step >= self.made.steps
        if trainer.is_global_zero:
            self._tell(trainer, model, step, first, last)
        self.stopped = not last and self._stop_requested(trainer, step)
        if last or self.stopped or (step % self.made.save_every == 0 and not self._rests(trainer)):
            self.save(trainer)
        trainer.should_stop = trainer.should_stop or self.stopped

    def _stop_requested(self, trainer: L.Trainer, step: int) -> bool:
        if trainer.world_size == 1:
            return self.should_stop()
        if step % AGREE_EVERY:
            return False
        return bool(trainer.strategy.reduce_boolean_decision(self.should_stop(), all=False))

    def _rests(self, trainer: L.Trainer) -> bool:
        """Whether an earlier checkpoint took so long that this one is skipped; the same on all workers."""
        rests = time.monotonic() < self.rested
        return rests if trainer.world_size == 1 else bool(trainer.strategy.reduce_boolean_decision(rests, all=False))

    def _tell(self, trainer: L.Trainer, model: L.LightningModule, step: int, first: bool, last: bool) -> None:
        metrics = latest(trainer, model) if step % self.made.log_every == 0 or last else {}
        if metrics:
            self.run.log(step, metrics)
        if first:
            self.run.status("running", step, self.made.steps, first_step_at=time.time())
        if metrics or time.monotonic() - self.reported > 0.25:
            self.reported = time.monotonic()
            rate = (step - self.began_at) / (self.reported - self.began)
            self.report({"step": step, "steps": self.made.steps, "rate": rate, "metrics": metrics})

    def save(self, trainer: L.Trainer) -> None:
        """Checkpoint this step, once."""
        if self.saved != self.step:
            self.saved = self.step
            started = time.monotonic()
            trainer.save_checkpoint("unused")
            ended = time.monotonic()
            self.rested = ended + REST * (ended - started) if ended - started > LONG else 0.0
            if trainer.is_global_zero and not self.stopped:
                self.run.status("running", self.step, self.made.steps)


def latest(trainer: L.Trainer, model: L.LightningModule) -> dict[str, float]:
    """What was logged last. Lightning keeps metrics of earlier steps, such as the losses of a stage that has ended."""
    names = getattr(model, "logged_names", None)
    return {k: float(v) for k, v in trainer.callback_metrics.items() if names is None or k in names}
