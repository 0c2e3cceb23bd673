"""Training of a generative model inside one worker: the same code in this process, under Lightning's DDP and under Ray Train."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import lightning as L
import torch

from datamodules.base import check_batch, part_of
from datamodules.choosing import Choosing
from datamodules.duplicates import repeated
from lightning_modules.ema import EMA
from lightning_modules.model import Generative, NotFinite, Samples
from lightning_modules.power_ema import PowerEMA
from ray_jobs.errors import UsageError
from ray_jobs.recipe.plan import Fit, widths
from ray_jobs.recipe.settings import build
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.run.checkpoint import damage
from ray_jobs.run.folder import Run
from ray_jobs.run.memory import freed_kept
from ray_jobs.run.progress import Report, silent
from ray_jobs.train import averages, earlier, start
from ray_jobs.train.evaluation import images
from ray_jobs.train.evaluation.schedule import Scheduled
from ray_jobs.train.recorder import RunCheckpoints, RunRecorder
from ray_jobs.train.sampling import sample

FIELDS = {"global_step": int, "epoch": int, "state_dict": dict, "optimizer_states": list, "lr_schedulers": list}
FIELDS |= {"loops": dict, "callbacks": dict}
"""What a checkpoint must hold, of that which Lightning writes."""


def prepare(spec: Spec) -> Fit:
    """The recipe built for this spec: the same weights in every worker and on every machine.

    Raises:
        UsageError: the recipe refuses its settings.
    """
    torch.set_num_threads(spec.where.threads)
    L.seed_everything(spec.seed, verbose=False)
    try:
        made: Fit = build(spec.recipe, spec.settings)
        made.model.prepare(spec.seed, accumulate=made.accumulate, grad_clip=made.grad_clip)
    except ValueError as error:
        raise UsageError(str(error)) from error
    assert isinstance(made, Fit)
    if spec.measured_on == "validation":
        made = replace(made, data=Choosing(made.data))
    model, data = made.model, made.data
    model.set_rate(made.lr, made.warmup)
    data.seed, data.num_workers = spec.seed, made.num_workers
    data.accumulate, data.batch = made.accumulate * model.batches_per_step, made.batch * model.batches_per_step
    return made


def fit(
    run: Run,
    spec: Spec,
    *,
    report: Report = silent,
    should_stop: Callable[[], bool] = lambda: False,
    placement: dict[str, Any] | None = None,
) -> bool:
    """Train to the end, or until `should_stop` is True; continue from the newest checkpoint where there is one.

    Args:
        placement: arguments of `lightning.Trainer` about where it runs: devices, strategy, plugins.

    Returns:
        whether training reached its end; the first worker has then recorded the result.

    Raises:
        NotFinite: the loss became NaN or infinite; the last good checkpoint is kept.
        UsageError: the data or a setting cannot be used, or the checkpoint is an earlier version's.
        OSError: the last checkpoint could not be written.
    """
    run.report = report
    made = prepare(spec)
    state = run.latest(FIELDS)
    step = state["global_step"] if state else 0
    if state:
        earlier.check_weights(run, step, state["state_dict"], made.model.state_dict(), spec.recipe)
        start.check_average(run, state, made)
    made.data.start = step * made.data.accumulate
    recorder, files = RunRecorder(run, made, report, should_stop), RunCheckpoints(run, report, state)
    schedule = [_scheduled(run, spec, made, recorder, report, should_stop)] if made.eval_every else []
    trainer = _trainer(made, spec, [*averages_of(made, run), recorder, *schedule], files, placement or {"devices": 1})
    if state is None:
        start.load(made.model, run)
    if trainer.is_global_zero:
        run.rewind(step)
        if state:
            report({"note": f"continuing from step {step}"})
    if made.compile:
        made.model.compile()
    if step < made.steps:
        check_data(made)
        try:
            with freed_kept():
                trainer.fit(made.model, made.data, ckpt_path=str(run.used) if state else None)
        except (UsageError, OSError, MemoryError):
            raise
        except Exception as error:
            if run.used and files.taken and not recorder.started:
                raise damage(run.used, error) from error
            if isinstance(error, ValueError):
                raise UsageError(str(error)) from error
            raise
    if recorder.stopped:
        return False
    if trainer.is_global_zero:
        if files.failed:
            raise OSError(f"{files.failed} Make room, and continue with: reprise resume {run}")
        _conclude(run, spec, report)
    return True


def check_data(made: Fit) -> None:
    """Refuse data that cannot be read, that fill no batch, or that the evaluation cannot be made with, before the first step.

    Raises:
        UsageError: one sentence says what is wrong.
    """
    try:
        made.data.setup("fit")
        check_batch(made.data.batch, getattr(made.data.source, "size", made.data.batch))
        if made.evaluate is not None:
            with contextlib.suppress(NotImplementedError):  # an evaluation may need no held-out examples
                made.data.test(1)
        if made.features:
            images.check(made)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _scheduled(
    run: Run, spec: Spec, made: Fit, recorder: RunRecorder, report: Report, should_stop: Callable[[], bool]
) -> Scheduled:
    """The callback that measures during training what `evaluate` measures at its end."""
    compare = images.Comparison(made) if made.features else None

    def measure(model: Generative, share: images.Share) -> dict[str, float]:
        own = evaluate(Trained(replace(made, features=""), model, 0), spec.seed) if share.rank == 0 else {}
        return own | (compare(model, spec.seed, share) if compare else {})

    return Scheduled(
        run, report, spec, every=made.eval_every, steps=made.steps, recorder=recorder,
        build=lambda: prepare(spec).model, measure=measure, should_stop=should_stop,
    )  # fmt: skip


def _trainer(
    made: Fit, spec: Spec, callbacks: list[L.Callback], files: RunCheckpoints, placement: dict[str, Any]
) -> L.Trainer:
    placement = dict(placement)
    plugins = [files, *placement.pop("plugins", [])]
    alone = made.model.automatic_optimization
    return L.Trainer(
        default_root_dir=os.devnull,  # else Lightning looks there, on Slurm, for checkpoints of its own to continue from
        max_steps=made.steps,
        max_epochs=-1,
        accelerator=spec.where.accelerator,
        precision=made.precision,
        gradient_clip_val=made.grad_clip or None if alone else None,
        accumulate_grad_batches=made.accumulate if alone else 1,
        log_every_n_steps=made.log_every,
        callbacks=callbacks,
        plugins=plugins,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **placement,
    )


def averages_of(made: Fit, run: Run) -> list[L.Callback]:
    """The averages of the weights that the plan keeps; snapshots of some go into the run folder."""
    plain: list[L.Callback] = [EMA(made.ema, made.ema_ramp)] if made.ema else []
    every = max(1, made.steps // made.ema_snapshots)
    power = [PowerEMA(found, every, partial(averages.save, run))] if (found := widths(made.ema_power)) else []
    return [*plain, *power]


class Trained(NamedTuple):
    """A run's recipe, its model at the newest checkpoint, and that checkpoint's step."""

    made: Fit
    model: Generative
    step: int


def trained(run: Run, ema: float | None = None) -> Trained:
    """Load the run's model as it is measured and sampled: with its averaged weights where EMA is on.

    Args:
        ema: relative width of the power-function average to take instead.

    Raises:
        UsageError: there is no checkpoint that can be read, or no average of this width can be made.
    """
    spec = run.spec
    made = prepare(spec)
    state = run.trained(FIELDS)
    weights = start.averaged(state) if ema is None else start.reconstructed(run, state, ema)
    earlier.check_weights(run, state["global_step"], weights, made.model.state_dict(), spec.recipe)
    start.check_average(run, state, made)
    made.model.load_state_dict(weights)
    return Trained(made, made.model.eval().to(device_of(spec.where)), state["global_step"])


def device_of(where: Where) -> str:
    """The device on which a model is measured and sampled."""
    asked = where.accelerator
    return "cuda" if asked == "gpu" or (asked == "auto" and torch.cuda.is_available()) else "cpu"


def evaluate(of: Trained, seed: int) -> dict[str, float]:
    """The recipe's metrics of a trained model, and those of its images by features; the same seed gives the same metrics.

    Raises:
        UsageError: the images cannot be compared with the reference.
    """
    made, found = of.made, {}
    if made.evaluate is None and not made.features:
        return {}
    made.data.setup("test")
    with (
        torch.random.fork_rng(),
        torch.no_grad(),
    ):  # not inference_mode: data may keep tensors that a training uses later
        torch.manual_seed(seed)
        if made.evaluate is not None:
            found = made.evaluate(of.model, made.data)
        return found | (images.Comparison(made)(of.model, seed) if made.features else {})


def _conclude(run: Run, spec: Spec, report: Report) -> None:
    """Measure what was learned, draw it, and record the result."""
    from ray_jobs.results import plots

    report({"note": "measuring the trained model"})
    found = trained(run)
    metrics = evaluate(found, spec.seed)
    if isinstance(found.model, Samples):
        n = 2048 if found.made.data.shape == (2,) else 64
        sample(found.model, found.made.data, run.path, n, seed=spec.seed)
    plots.learning_curve(run)
    losses = {k: v for k, v in (run.last() or {}).items() if k not in ("step", "time")}
    where = splits(found.made, metrics)
    if where and (again := repeated(found.made.data)):
        report(
            {
                "note": f"{again} of the held-out examples are training examples too, which flatters what is measured on them"
            }
        )
        of_it = f", {again} of it trained on"
        where = {k: f"{v}{of_it}" if v.startswith(part_of(found.made.data)) else v for k, v in where.items()}
    where = dict.fromkeys(losses, "train") | where
    run.finish(losses | metrics, step=found.step, device=str(found.model.device), splits=where)


def splits(made: Fit, metrics: Iterable[str]) -> dict[str, str]:
    """The part of the data that each metric of an evaluation was measured on."""
    own = {name: "train" if name.startswith("train_") else part_of(made.data) for name in metrics}
    return own | images.splits(made, own)


__all__ = ["NotFinite", "evaluate", "fit", "trained"]
