"""Several seeds of an agent's recipe in this process, each in its own run folder; `reprise reproduce --together` starts it.

    python -m ray_jobs.reproduce.seeds_together '[{"recipe": ..., "settings": {...}, "seed": 0, "where": {...}, "out": FOLDER}, ...]'

The specs differ in seed and folder. An unfinished run is continued from its own checkpoint.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ray_jobs.envs.failures import EnvironmentFailed
from ray_jobs.errors import UsageError
from ray_jobs.recipe import loading
from ray_jobs.recipe.loading import engine, kind
from ray_jobs.recipe.plan import Play
from ray_jobs.recipe.settings import build, check
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.run.folder import Run
from ray_jobs.run.progress import noise_to
from ray_jobs.run.signals import stopping
from ray_jobs.train.agents import FIELDS, check_checkpoint, conclude
from ray_jobs.train.launch import mark_unfinished


def refuse(recipe: str, settings: dict, where: Where) -> None:
    """Refuse a recipe whose seeds cannot be trained together, before any folder is made.

    Raises:
        UsageError: it cannot be; the message says why.
    """
    if where.runners or where.learners > 1 or where.accelerator == "gpu":
        raise UsageError("--together trains seeds in one process on its CPU: leave --runners, --learners and gpu out.")
    try:
        engine(loading.recipe(recipe)).check_together(build(recipe, settings))
    except ValueError as error:
        raise UsageError(str(error)) from error


def opened(spec: Spec) -> Run:
    """The spec's run folder, new or to be continued, locked.

    Raises:
        UsageError: another process is at work in it, or it cannot be written.
    """
    if Run.at(spec.out or "").exists():
        return Run.open(spec.out or "").lock()
    return Run.create(
        spec,
        kind=kind(loading.recipe(spec.recipe)).__name__,
        command=["python", "-m", "ray_jobs.reproduce.seeds_together", *sys.argv[1:]],
    )


def train(specs: Sequence[Spec]) -> tuple[dict[int, str], int]:
    """Train them to their ends, or until a signal.

    Returns:
        Why seeds failed, and the number of the signal that stopped them, or 0.
    """
    import torch

    from ray_jobs.rl.together.play import play_together

    first = specs[0]
    check(first.recipe, first.settings, first.where)
    torch.set_num_threads(first.where.threads)
    why: dict[int, str] = {}
    runs = [opened(spec) for spec in specs]
    state = "failed"

    def done(i: int, metrics: dict[str, float]) -> None:
        conclude(runs[i], metrics, "cpu")

    def failed(i: int, error: Exception) -> None:
        why[specs[i].seed] = str(error)

    def report(i: int, event: Mapping[str, Any]) -> None:
        if note := event.get("note"):
            print(f"seed {specs[i].seed}: {note}", flush=True)

    try:
        made = build(first.recipe, first.settings)
        with stopping() as stop, noise_to(runs[0].path / "log.txt"):
            states = [restored(run, made) for run in runs]
            seeds = [spec.seed for spec in specs]
            stopped = play_together(
                made, seeds, runs, states=states, done=done, failed=failed, report=report, should_stop=stop.is_set
            )
        state = "stopped" if stopped else "failed"
        return why, stop.number if stopped else 0
    finally:
        for run in runs:
            if run.result is None:
                mark_unfinished(run, state)
            run.release()


def restored(run: Run, plan: Play) -> dict | None:
    """The newest checkpoint, or None; the run's metrics are cut back to its step."""
    found = run.latest(FIELDS)
    if found:
        check_checkpoint(run, plan, found)
    step = found["step"] if found else 0
    run.rewind(step)
    run.status("running", step, plan.steps)
    return found


def main(argv: Sequence[str]) -> int:
    """Train the seeds of the command line. The exit code: 0; 1 where a seed failed; 2 for wrong input; 128 + n when signal n stopped it."""
    try:
        why, signal = train([Spec.of(record) for record in json.loads(argv[0])])
    except UsageError as error:
        print(f"reprise: {error}", file=sys.stderr)
        return 2
    except (FloatingPointError, OSError, EnvironmentFailed) as error:
        print(f"reprise: {error}", file=sys.stderr)
        return 1
    for seed, reason in why.items():
        print(f"reprise: seed {seed}: {reason}", file=sys.stderr)
    return 128 + signal if signal else int(bool(why))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
