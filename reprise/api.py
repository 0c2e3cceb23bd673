"""The functions of the Python API. Each does what the verb of its name does, with the same words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_jobs.recipe.loading import engine, names, recipe, systems
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.run.folder import Run
from ray_jobs.run.progress import display
from ray_jobs.train import inspect, launch
from ray_jobs.train.earlier import current_spec, data_found
from ray_jobs.train.evaluation.best import chosen

if TYPE_CHECKING:
    from torch import Tensor

    from datamodules.base import Data
    from lightning_modules.model import Generative
    from ray_jobs.rl.rollout.acting import Agent

PLACES = {field.name for field in dataclasses.fields(Where)}


def recipes() -> list[str]:
    """The names that `train` takes: recipes, and systems that train on data or environments of your own."""
    return sorted({*names(), *systems()})


def train(
    name: str,
    *,
    out: str | Path | None = None,
    seed: int = 0,
    start: Mapping[str, str] | None = None,
    quiet: bool = True,
    **settings: Any,
) -> Run:
    """Train a recipe in a new run folder, to the end.

    Args:
        name: a recipe, such as 'ddpm_digits', or a system, such as 'ppo' with env=...
        out: the run folder, or an address such as s3://bucket/run; by default a new one below runs/.
        seed: of every random number.
        start: runs whose averaged weights parts of the model start from, by the part's name.
        quiet: show no progress.
        settings: of the recipe (`reprise show NAME` lists them), and workers, runners, learners, accelerator, threads, address,
            max_failures, min_workers, as the command line has them.

    Returns:
        the finished run: `run.result["metrics"]`, `run.metrics()`, `run.path`.

    Raises:
        UsageError: a name or a setting is wrong; nothing was started.
        Failed: the training cannot continue.
        launch.Stopped: a signal stopped it; `resume` continues.
    """
    where = Where(**{key: settings.pop(key) for key in PLACES & settings.keys()})
    spec = Spec(name, settings, seed, where, None if out is None else str(out), dict(start or {}))
    with display(name, quiet=quiet) as report:
        return launch.launch(spec, report=report)


def resume(run: Run | str | Path, *, quiet: bool = True) -> Run:
    """Continue a run that was stopped or killed, bit for bit; the finished run.

    Raises:
        UsageError: there is no run, or it is finished, or another process is at work in it.
        Failed: as for `train`.
    """
    opened = Run.open(str(run))
    with display(opened.spec.recipe, quiet=quiet) as report:
        return launch.resume(str(run), report=report)


def evaluate(run: Run | str | Path, *, checkpoint: str = "newest") -> dict[str, float]:
    """The metrics of a run's checkpoint, measured again.

    Args:
        checkpoint: newest, best, or the step of one that is kept.

    Raises:
        UsageError: the run has no such checkpoint.
    """
    opened = opened_at(run, checkpoint)
    with data_found(opened):
        return engine(recipe(opened.spec.recipe)).evaluate(opened, None)[0]


def sample(run: Run | str | Path, **options: Any) -> Path:
    """Draw samples, episodes or games into the run folder, as `reprise sample` does; the picture.

    Args:
        options: of `reprise sample`, such as n=100, guidance=2, episodes=3.

    Raises:
        UsageError: the run has nothing to sample, or takes no such option.
    """
    return inspect.sample(str(run), **options)


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained generative model, with its averaged weights where it has them."""

    model: Generative
    """The LightningModule, in evaluation mode."""
    data: Data
    """What it was trained on."""
    step: int
    """Optimiser steps so far."""

    def sample(self, n: int, *, seed: int = 0, **options: Any) -> Tensor:
        """n samples [n, *D] on the model's device, a function of the seed.

        Args:
            options: of the model's own `sample`, such as guidance or steps.

        Raises:
            ValueError: the model cannot take an option.
        """
        import torch

        from lightning_modules.model import Samples

        if not isinstance(self.model, Samples):
            raise ValueError(f"{type(self.model).__name__} draws no samples.")
        with torch.no_grad():
            return self.model.sample(n, rng=torch.Generator(self.model.device).manual_seed(seed), **options)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) [B] in nats of examples x [B, *D], or a lower bound on it.

        Raises:
            ValueError: the model has no density.
        """
        import torch

        from lightning_modules.model import Density

        if not isinstance(self.model, Density):
            raise ValueError(f"{type(self.model).__name__} has no density.")
        with torch.no_grad():
            return self.model.log_prob(x.to(self.model.device))


def load(run: Run | str | Path, *, checkpoint: str = "newest") -> Model | Agent:
    """What a run has trained: a model, which draws samples, or an agent, which acts.

    Args:
        checkpoint: newest, best, or the step of one that is kept.

    Raises:
        UsageError: the run has no checkpoint that can be read, or is a study, which has neither.
    """
    from ray_jobs.rl.rollout.acting import Agent

    opened = opened_at(run, checkpoint)
    with data_found(opened):
        found = engine(recipe(opened.spec.recipe)).loaded(opened)
    return found if isinstance(found, Agent) else Model(found.model, found.made.data, found.step)


def opened_at(run: Run | str | Path, checkpoint: str) -> Run:
    """The run, from which that checkpoint will be read.

    Raises:
        UsageError: there is no run, an earlier version wrote it, or it has no such checkpoint.
    """
    opened = Run.open(str(run))
    current_spec(opened)
    opened.wanted = chosen(opened, checkpoint)
    return opened
