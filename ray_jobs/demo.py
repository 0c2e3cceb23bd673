"""`reprise demo`: one generative model and one agent, trained for real in a few minutes, and both shown against their claims."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from ray_jobs.recipe.spec import Spec, Where, as_flags
from ray_jobs.run.folder import Run
from ray_jobs.run.progress import display
from ray_jobs.train.launch import launch, resume
from ray_jobs.train.verbs import conclude

PARTS = {"ddpm_digits": Where(workers=2, address="local"), "ppo_cartpole": Where(runners=2, address="local")}


def demo(*, out: str | None = None, seed: int = 0) -> Path:
    """Train DDPM on digits and PPO on CartPole, and report on both.

    DDPM has two DDP workers, PPO two env runners. A demo that was stopped continues with the same --out.

    Args:
        out: folder for both runs and the page; by default runs/demo-<time>.
        seed: of both runs.

    Returns:
        the page that shows both.
    """
    from ray_jobs.report.report import report

    folder = Path(out or f"runs/demo-{datetime.now():%Y%m%d-%H%M%S}")
    print(f"Training {' and '.join(PARTS)} into {folder}; this takes a few minutes.", flush=True)
    for recipe, where in PARTS.items():
        conclude(_part(Spec(recipe, {}, seed, where, str(folder / recipe))))
    page = report(out=str(folder / "report.html"), runs=[str(folder / recipe) for recipe in PARTS])
    print("Both against their claims:")
    return page


def _part(spec: Spec) -> Run:
    """One run of the demo: new, continued, or already finished."""
    with display(spec.recipe) as say:
        if not Run.at(str(spec.out)).exists():
            return launch(spec, report=say, command=["reprise", "train", spec.recipe, *as_flags(spec.where)])
        found = Run.open(str(spec.out))
        return found if found.result else resume(str(spec.out), report=say)
