"""The verbs `reprise train` and `reprise resume`: train with a progress display, and print the result."""

from __future__ import annotations

import os
from typing import Any

from ray_jobs.command.options import CommandLine
from ray_jobs.recipe.loading import recipe
from ray_jobs.recipe.spec import Spec
from ray_jobs.run.folder import Run
from ray_jobs.run.progress import brief, display
from ray_jobs.train import launch


def train(spec: Spec, argv: CommandLine, *, quiet: bool = False) -> None:
    """Train a recipe: a generative model, an agent or a process.

    Args:
        spec: the recipe, its settings, the seed, and where it runs.
        argv: the command line behind `train`, for the run's record.
        quiet: Print nothing while it runs.
    """
    with display(spec.recipe, quiet=quiet) as report:
        run = launch.launch(spec, report=report, command=["reprise", "train", *argv])
    conclude(run)


def resume(
    run: str,
    *,
    quiet: bool = False,
    address: str | None = None,
    trust: bool = False,
    moved: dict[str, Any] | None = None,
) -> None:
    """Continue a run that was stopped or killed, bit for bit.

    Args:
        run: the run folder.
        quiet: Print nothing while it runs.
        address: Another Ray cluster than the one where it started; 'local' is this machine alone.
        trust: Load everything that its environments stored; only for runs of authors whom you trust.
        moved: Data that lie elsewhere now, as '{"data_dir": "place"}' or --data_dir place; run.json keeps both places.

    Raises:
        UsageError: there is no run, it is finished, or another process is at work in it.
    """
    if trust:
        os.environ["REPRISE_TRUST"] = "1"  # of this process and those it starts
    with display(Run.open(run).spec.recipe, quiet=quiet) as report:
        done = launch.resume(run, report=report, address=address, moved=moved)
    conclude(done)


def conclude(run: Run) -> None:
    """Print a finished run's folder, time and metrics, and whether they reach the claim."""
    result = run.result or {"metrics": {}, "seconds": 0}
    shown = "  ".join(f"{k} {brief(v)}" for k, v in result["metrics"].items() if not k.startswith("loss"))
    print(f"{run}: {brief(result['seconds'])} s  {shown}")
    claim = recipe(run.spec.recipe).claim
    if claim and claim.metric in result["metrics"]:
        verdict = "reached" if claim.holds(result["metrics"][claim.metric]) else "not reached"
        other = ", ".join(sorted(run.spec.settings))
        print(
            f"claim {claim}: {verdict} by this seed"
            + (f", with other settings than the claim's ({other})" if other else "")
        )
