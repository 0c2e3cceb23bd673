"""The engine of `Fit`: generative models, trained in this process, in a group on this machine, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_jobs.distributed.connection import cluster_address
from ray_jobs.errors import UsageError
from ray_jobs.recipe.plan import Fit
from ray_jobs.recipe.spec import Spec
from ray_jobs.run.folder import Run
from ray_jobs.run.progress import Report
from ray_jobs.train.drawing import Drawing
from ray_jobs.train.groups import ddp_group, on_cluster

if TYPE_CHECKING:
    from ray_jobs.train.fit import Trained


def train(run: Run, spec: Spec, report: Report, should_stop: Callable[[], bool]) -> bool:
    """Train where the spec says; whether training reached its end."""
    if cluster_address(spec.where.address):
        return on_cluster.train(run, spec, report, should_stop)
    if spec.where.workers > 1:
        return ddp_group.train(run, spec, report, should_stop)
    from ray_jobs.train.fit import fit

    return fit(run, spec, report=report, should_stop=should_stop)


def evaluate(run: Run, ema: float | None = None) -> tuple[dict[str, float], int]:
    """The recipe's metrics of the newest checkpoint, or the one that is asked for, and its step.

    Args:
        ema: relative width of the average of the weights that is measured; None: the weights as the recipe averages them.

    Raises:
        UsageError: there is no checkpoint that can be read, or no average of this width can be made.
    """
    from ray_jobs.train import fit

    found = fit.trained(run, ema)
    return fit.evaluate(found, run.spec.seed), found.step


def splits(run: Run, metrics: Iterable[str]) -> dict[str, str]:
    """The part of the data that each metric of `evaluate` is measured on: test, validation, train, or fresh draws."""
    from ray_jobs.train import fit

    made = fit.prepare(run.spec)
    made.data.setup("test")
    return fit.splits(made, metrics)


def sample(run: Run, *, n: int, seed: int, name: str, how: Drawing) -> Path:
    """Samples of that checkpoint in the run folder, see `sampling.sample`.

    Raises:
        UsageError: there is no checkpoint that can be read, or the model does not take an option.
    """
    from ray_jobs.train import fit, sampling

    found = fit.trained(run, how.ema)
    return sampling.sample(found.model, found.made.data, run.path, n, seed=seed, name=name, how=how)


def loaded(run: Run) -> Trained:
    """See `model`."""
    return model(run)


def model(run: Run) -> Trained:
    """The run's model as it is measured and sampled.

    Raises:
        UsageError: there is no checkpoint that can be read.
    """
    from ray_jobs.train import fit

    return fit.trained(run)


def weights(plan: Fit, seed: int) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    """The untrained weights, and the parameter groups of the optimisers, in order."""
    found = plan.model.configure_optimizers()
    many = found if isinstance(found, list | tuple) else [found]
    optimizers = [o["optimizer"] if isinstance(o, dict) else o for o in many]
    return plan.model.state_dict(), [g for o in optimizers for g in o.param_groups]


def fixed(plan: Fit) -> dict[str, Any]:
    """Options that a checkpoint depends on, so that they cannot change while a run continues."""
    return {"averaging": plan.ema > 0, "power averages": plan.ema_power, "steps": plan.steps}


def check_together(plan: Fit) -> None:
    """Refuse: several seeds in one process are for agents.

    Raises:
        UsageError: always.
    """
    raise UsageError("This recipe trains a generative model: --together is for agents.")
