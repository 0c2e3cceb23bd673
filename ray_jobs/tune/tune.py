"""`reprise tune`: a search over a recipe's settings on Ray Tune, each trial an ordinary run folder.

The state of a search is in its run folders, not in Ray: the same command continues a search whose driver was killed. Trials that have
ended are not trained again, and the unfinished ones continue from their checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray_jobs.errors import UsageError
from ray_jobs.recipe.spec import Spec
from ray_jobs.run import job_context
from ray_jobs.run.folder import Run
from ray_jobs.run.progress import noise_to
from ray_jobs.train import start
from ray_jobs.tune import leaderboard, population, ray_tune, share, trial
from ray_jobs.tune import search as searches
from ray_jobs.tune.leaderboard import Leaderboard
from ray_jobs.tune.search import Search
from ray_jobs.tune.search_report import conclude, shown_path
from ray_jobs.tune.trial import Task, Train
from ray_jobs.tune.trials import load_all

NO_RECIPE = Spec("")
"""The spec without a recipe, for --resume FOLDER, whose search records the recipe."""


def tune(
    spec: Spec = NO_RECIPE,
    *,
    space: dict[str, str] | None = None,
    trials: int | None = None,
    scheduler: str | None = None,
    search: str = "random",
    metric: str | None = None,
    mode: str | None = None,
    concurrent: int | None = None,
    resume: str | None = None,
    quiet: bool = False,
    train: Train = trial.train,
) -> int:
    """Search a recipe's settings with Ray Tune.

    The same command continues a search that was stopped or killed.

    Args:
        spec: the recipe, its fixed settings, the seed of every trial, where each runs, and the search's folder.
        space: Setting to expression, as --space.lr 'loguniform(1e-4, 1e-2)'; the recipe's own space by default.
        trials: How many trials to run; 20, or all combinations of a grid.
        scheduler: asha stops bad trials early, pbt lets bad ones take over better weights, none does neither; asha by default,
            none for a study.
        search: random, or optuna, which learns from finished trials.
        metric: What to tune: a metric of the final result; the claim's by default.
        mode: min or max; the claim says it by default.
        concurrent: Trials at a time; by default as many as the cores allow.
        resume: Folder of a search to continue, as it was defined there; --trials may add to it.
        quiet: Print nothing while it runs.
        train: what trains one trial.

    Returns:
        0; 1 where no trial finished; 130 where it was interrupted.

    Raises:
        UsageError: an option is wrong; nothing was started.
    """
    fixed = {"scheduler": scheduler, "search": search != "random", "metric": metric, "mode": mode}
    asked = (*(space or {}), *spec.settings, *(name for name, given in fixed.items() if given))
    if resume:
        wanted = _resumed(resume, spec, trials, asked=asked)
    else:
        wanted = made(spec, space, trials, scheduler, search, metric, mode)
    out = Path(resume or spec.out or searches.default_out(wanted)).resolve()
    if concurrent is not None and concurrent < 1:
        raise UsageError(f"--concurrent must be at least 1, not {concurrent}.")
    if wanted.scheduler == "pbt" and train is trial.train:
        population.refuse(wanted)
    part = job_context.share()
    if part is not None:
        share.refuse(wanted)
    wanted = searches.enter(out, wanted)
    if part is not None:
        return share.run(Task(wanted, str(out), train), part, ray_tune.starts(wanted, load_all(out)))
    lock = Run(out).lock()
    try:
        return _run(Task(wanted, str(out), train), out, concurrent, quiet)
    finally:
        lock.release()


def _resumed(location: str, spec: Spec, trials: int | None, asked: tuple[str, ...]) -> Search:
    """The search that a folder holds; only the number of trials may grow, and where they run may change."""
    found = searches.load(Path(location))
    if found is None:
        raise UsageError(
            f"{location} holds no search to resume: it has no {searches.FILE}. 'reprise tune RECIPE' makes one."
        )
    if spec.recipe and spec.recipe != found.recipe:
        raise UsageError(f"{location} holds a search of {found.recipe}, not of {spec.recipe}.")
    if asked:
        raise UsageError(f"--resume continues the search as it was defined: leave out '{asked[0]}', or --resume.")
    return replace(found, trials=max(found.trials, trials or 0), where=spec.where)


def made(
    spec: Spec,
    space: Mapping[str, Any] | None,
    trials: int | None,
    scheduler: str | None,
    search: str,
    metric: str | None,
    mode: str | None,
) -> Search:
    """The search that these options describe.

    Raises:
        UsageError: an option is wrong.
    """
    if not spec.recipe:
        raise UsageError("Name the recipe first: reprise tune RECIPE ..., or --resume FOLDER to continue a search.")
    if "://" in str(spec.out):
        raise UsageError(
            f"--out {spec.out} is no path: a search needs a folder that all machines share, such as /shared/x."
        )
    return searches.make(
        spec.recipe,
        space=space or {},
        settings=spec.settings,
        trials=trials,
        scheduler=scheduler,
        search=search,
        metric=metric,
        mode=mode,
        seed=spec.seed,
        where=spec.where,
        start=start.resolved(spec).start,
    )


def _run(task: Task, out: Path, concurrent: int | None, quiet: bool) -> int:
    """Run the rest of the search, then print and write its result."""
    board = Leaderboard(task.search, out)
    left = task.search.trials - sum(t.done for t in board.trials.values())
    interrupted = False
    if left:
        if not quiet and board.trials:
            print(
                f"Continuing in {shown_path(out)}: {task.search.trials - left} of {task.search.trials} trials are done."
            )
        with leaderboard.shown(board, quiet) as hear, noise_to(out / "log.txt"):
            interrupted = ray_tune.run(task, out, concurrent, hear)
    board.trials = {t.number: t for t in load_all(out)}
    return conclude(board, out, interrupted, quiet)
