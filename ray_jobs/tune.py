"""`reprise tune`: a search over a recipe's settings on Ray Tune, each trial an ordinary run folder.

Ray Tune places trials, stops the hopeless ones (ASHA), exchanges weights (PBT) and proposes settings (Optuna). What has
happened is kept by the run folders, not by Ray: a search whose driver was killed is begun anew, its finished trials say
what they had said without being trained, and its unfinished ones go on from their checkpoints.

Source: ASHA, Li et al. 2020 (arXiv:1810.05934), algorithm 2. Differs: rungs are percents of a trial's own training (12
and 36, a third survives each), so that recipes of any length and trials of different lengths can be compared.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ray_jobs import attempt, leaderboard, population, trial, trials, tune_share
from ray_jobs import search as searches
from ray_jobs.interrupts import handlers_kept, stopping
from ray_jobs.leaderboard import Leaderboard
from ray_jobs.on_ray import cluster_address, connect, environment
from ray_jobs.outcome import conclude, shown_path
from ray_jobs.progress import noise_to
from ray_jobs.recipe import Fit, UsageError, kind
from ray_jobs.run import Run, Spec, Where
from ray_jobs.search import Search
from ray_jobs.space import Dimension, sample
from ray_jobs.trial import Task, Train
from ray_jobs.trials import Trial, folder

FIRST_RUNG, SURVIVORS = 12, 3
PERTURB = 5.0
"""Least percent of the training between two exchanges of a population; in effect each checkpoint."""
TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # the score comes only at the end
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours also hears SIGTERM
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "20",  # a stopped trial saves first; then its process serves the next
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


def tune(
    spec: Spec,
    space: Mapping[str, Any] | None = None,
    *,
    trials: int | None = None,
    scheduler: str = "asha",
    search: str = "random",
    metric: str | None = None,
    mode: str | None = None,
    concurrent: int | None = None,
    resume: str | None = None,
    quiet: bool = False,
    train: Train = trial.train,
) -> int:
    """Search the settings of a recipe; the same command goes on with a search that was stopped or killed.

    Args:
        spec: the recipe, its fixed settings, the seed of every trial, where each runs, and the search's folder.
        space: setting to expression ('loguniform(1e-4, 1e-2)'); the recipe's own space where none is given.
        trials: How many trials to run; 20, or all combinations of a grid.
        scheduler: asha stops bad trials early, pbt lets them take over better ones' weights, none does neither.
        search: random, or optuna, which learns from finished trials.
        metric: What to tune: a metric of the final result; the claim's by default.
        mode: min or max; the claim says it by default.
        concurrent: Trials at a time; as many as there are cores for by default.
        resume: Folder of a search to go on with, as it was defined there; --trials may add to it.
        quiet: Print nothing while it runs.
        train: what trains one trial.

    Returns:
        0; 1 where no trial finished; 130 where it was interrupted.

    Raises:
        UsageError: the search cannot be; nothing was started.
    """
    if resume:
        wanted = _resumed(resume, spec, trials, asked=(*(space or {}), *spec.settings, *filter(None, (metric, mode))))
    else:
        wanted = made(spec, space, trials, scheduler, search, metric, mode)
    out = Path(resume or spec.out or searches.default_out(wanted)).resolve()
    if concurrent is not None and concurrent < 1:
        raise UsageError(f"--concurrent must be at least 1, not {concurrent}.")
    if wanted.scheduler == "pbt" and train is trial.train:
        population.refuse(wanted)
    part = attempt.share()
    if part is not None:
        tune_share.refuse(wanted)
    wanted = searches.enter(out, wanted)
    if part is not None:
        return tune_share.run(Task(wanted, str(out), train), part, _starts(wanted, out))
    lock = Run(out).lock()
    try:
        return _run(Task(wanted, str(out), train), out, concurrent, quiet)
    finally:
        lock.release()


def _resumed(location: str, spec: Spec, trials: int | None, asked: tuple[str, ...]) -> Search:
    """The search that a folder holds; only its number of trials may grow, and its place change."""
    found = searches.load(Path(location))
    if found is None:
        raise UsageError(
            f"{location} holds no search to resume: it has no {searches.FILE}. 'reprise tune RECIPE' makes one."
        )
    if spec.recipe and spec.recipe != found.recipe:
        raise UsageError(f"{location} holds a search of {found.recipe}, not of {spec.recipe}.")
    if asked:
        raise UsageError(f"--resume goes on with the search as it was defined: leave out '{asked[0]}', or --resume.")
    return replace(found, trials=max(found.trials, trials or 0), where=spec.where)


def made(
    spec: Spec,
    space: Mapping[str, Any] | None,
    trials: int | None,
    scheduler: str,
    search: str,
    metric: str | None,
    mode: str | None,
) -> Search:
    """The search that these options mean, refused where it cannot be."""
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
    )


def _run(task: Task, out: Path, concurrent: int | None, quiet: bool) -> int:
    """Run what is left of the search, then say and write what came of it."""
    board = Leaderboard(task.search, out)
    left = task.search.trials - sum(t.done for t in board.trials.values())
    interrupted = False
    if left:
        if not quiet and board.trials:
            print(
                f"Going on in {shown_path(out)}: {task.search.trials - left} of {task.search.trials} trials are done."
            )
        with leaderboard.shown(board, quiet) as hear, noise_to(out / "log.txt"):
            interrupted = _search(task, out, concurrent, hear)
    board.trials = {t.number: t for t in trials.load_all(out)}
    return conclude(board, out, interrupted, quiet)


# ---- on Ray


def _search(task: Task, out: Path, concurrent: int | None, hear: Callable[[Trial], None]) -> bool:
    """Whether it was interrupted."""
    with environment(TUNE_ENVIRONMENT), handlers_kept(signal.SIGUSR1), stopping(_end_tune) as interrupted:
        where = task.search.where
        need = searches.cpus(task.search)
        with _ray(where, need * (concurrent or 1)) as ray:
            cpus = ray.cluster_resources().get("CPU", 0)
            if cpus < need:
                raise UsageError(f"A trial needs {need} CPUs, but the cluster has {cpus:g} in all: take fewer workers.")
            at_once = min(concurrent or max(1, int(cpus // need)), task.search.trials)
            shutil.rmtree(out / ".tune", ignore_errors=True)  # the run folders are what counts
            with contextlib.suppress(KeyboardInterrupt):
                _tuner(task, out, at_once, _bundles(task.search, ray), Listener(out, hear, interrupted)).fit()
            shutil.rmtree(out / ".tune", ignore_errors=True)
    return interrupted.is_set()


def _end_tune() -> None:
    """Tune ends in order at SIGUSR1, where it has come to listen for that."""
    if signal.getsignal(signal.SIGUSR1) in (signal.SIG_DFL, signal.SIG_IGN, None):
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGUSR1)


def _tuner(task: Task, out: Path, at_once: int, bundles: list[dict[str, float]], listener: Any) -> Any:
    from ray import tune as rt
    from ray.tune.callback import Callback

    class Listening(Callback):
        """The listener, as Ray Tune wants it; Tune pickles it for a restore that is never used."""

        def __init__(self) -> None:
            self.on_trial_result = listener.on_trial_result
            self.on_trial_complete = listener.on_trial_complete
            self.on_trial_error = listener.on_trial_error

        def __reduce__(self) -> tuple[type, tuple[()]]:
            return Callback, ()

    search, starts = task.search, _starts(task.search, out)
    space = {} if search.search == "optuna" else {"trial": rt.grid_search(starts)}
    name = _name_of
    return rt.Tuner(
        rt.with_resources(partial(_trainable, task=task), rt.PlacementGroupFactory(bundles)),
        param_space=space,
        tune_config=rt.TuneConfig(
            num_samples=search.trials if search.search == "optuna" else 1,
            scheduler=_scheduler(search),
            search_alg=_searcher(search, out, starts) if search.search == "optuna" else None,
            max_concurrent_trials=at_once,
            reuse_actors=True,
            trial_name_creator=name,
            trial_dirname_creator=name,
        ),
        run_config=rt.RunConfig(
            name="tune",
            storage_path=str(out / ".tune"),
            failure_config=rt.FailureConfig(max_failures=search.where.max_failures),
            callbacks=[Listening()],
            verbose=0,
        ),
    )


def _name_of(ray_trial: Any) -> str:
    return f"{ray_trial.config['trial']['number']:04d}"


def _starts(search: Search, out: Path) -> list[dict[str, Any]]:
    """What each trial begins with: its recorded settings, or those that its number stands for (none yet for Optuna)."""
    dimensions = search.dimensions
    recorded = {t.number: dict(t.settings) for t in trials.load_all(out)}
    if search.search == "optuna":
        return [{"number": n, "settings": recorded[n]} for n in sorted(recorded)]
    numbers = range(search.trials)
    return [{"number": n, "settings": recorded.get(n) or sample(dimensions, search.seed, n)} for n in numbers]


def _trainable(config: dict[str, Any], task: Task) -> None:
    """One trial, in its actor."""
    from ray import tune as rt

    number = int(rt.get_context().get_trial_name())
    out = Path(task.out)
    current = trial.begin(out, number, config["trial"]["settings"])
    donated = rt.get_checkpoint()
    if donated:
        with donated.as_directory() as donor:
            current = population.adopt(task.spec(current), current, Path(donor), config["trial"]["settings"])

    def tell(metrics: dict[str, Any], checkpoint: Path | None) -> None:
        if checkpoint is None or task.search.scheduler != "pbt":
            rt.report(metrics)
            return
        with tempfile.TemporaryDirectory() as packed:
            now = trials.load(folder(out, number)) or current
            population.pack(now, checkpoint, Path(packed))
            rt.report(metrics, checkpoint=rt.Checkpoint.from_directory(packed))

    trial.run(task, current, tell)


def _scheduler(search: Search) -> Any:
    from ray.tune import schedulers

    told = {"time_attr": "percent", "metric": "progress", "mode": search.progress_mode}
    if search.scheduler == "asha":
        return schedulers.ASHAScheduler(
            max_t=100, grace_period=FIRST_RUNG, reduction_factor=SURVIVORS, stop_last_trials=False, **told
        )
    if search.scheduler == "pbt":
        explore = partial(_explored, search=search, rng=random.Random(search.seed))
        return schedulers.PopulationBasedTraining(
            perturbation_interval=PERTURB, custom_explore_fn=explore, require_attrs=False, log_config=False, **told
        )
    return schedulers.FIFOScheduler()


def _explored(config: dict[str, Any], search: Search, rng: random.Random) -> dict[str, Any]:
    """A donor's configuration with each setting perturbed."""
    old = config["trial"]["settings"]
    settings = {name: d.perturbed(old[name], rng) for name, d in search.dimensions.items()}
    return {"trial": {**config["trial"], "settings": settings}}


def _searcher(search: Search, out: Path, starts: list[dict[str, Any]]) -> Any:
    """Optuna's proposals, numbered; a search that goes on proposes first what it had, so that Optuna learns it again."""
    from ray.tune.search import Searcher
    from ray.tune.search.optuna import OptunaSearch

    known = [s["settings"] for s in starts]
    inner = OptunaSearch(
        OptunaSearch.convert_search_space(_distributions(search)),
        metric="score",
        mode=search.mode,
        seed=random.Random(f"{search.seed}/{len(known)}").getrandbits(31),  # one seed would propose the first again
        points_to_evaluate=known or None,
    )

    class Numbered(Searcher):
        """Optuna by numbered trials: the settings are on disk before anything trains with them."""

        count = 0

        def suggest(self, trial_id: str) -> dict[str, Any]:
            number, self.count = self.count, self.count + 1
            begun = trial.begin(out, number, inner.suggest(trial_id))
            return {"trial": {"number": number, "settings": dict(begun.settings)}}

        def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
            """Only ends count: progress may be another metric."""

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            inner.on_trial_complete(trial_id, result, error or "failed" in (result or {}))

        def save(self, checkpoint_path: str) -> None:
            """Nothing: the run folders are what counts."""

        def restore(self, checkpoint_path: str) -> None:
            """Nothing: the run folders are what counts."""

    return Numbered(metric="score", mode=search.mode)


def _distributions(search: Search) -> dict[str, Any]:
    """The space in Ray Tune's words."""
    from ray import tune as rt

    return {name: rt.choice(list(d.args)) if d.form == "choice" else getattr(rt, _ray_name(d))(*d.args)
            for name, d in search.dimensions.items()}  # fmt: skip


def _ray_name(dimension: Dimension) -> str:
    whole = dimension.form == "quniform" and all(isinstance(x, int) for x in dimension.args)
    return "qrandint" if whole else dimension.form


@dataclass
class Listener:
    """Hears from Ray Tune what happens to the trials, and passes it on."""

    out: Path
    hear: Callable[[Trial], None]
    interrupted: threading.Event

    def _trial(self, ray_trial: Any) -> Trial:
        number = int(str(ray_trial))
        return trials.load(folder(self.out, number)) or Trial(number, ray_trial.config["trial"]["settings"])

    def on_trial_result(self, trial: Any, **_: Any) -> None:
        """A report."""
        self.hear(self._trial(trial))

    def on_trial_complete(self, trial: Any, **_: Any) -> None:
        """A trial that ends without having said how was stopped by the scheduler."""
        ended = self._trial(trial)
        if not ended.done and not self.interrupted.is_set():
            ended = replace(ended, state="stopped")
            trials.save(folder(self.out, ended.number), ended)
        self.hear(ended)

    def on_trial_error(self, trial: Any, **_: Any) -> None:
        """A trial whose processes died again and again; it is tried once more when the search is resumed."""
        self.hear(replace(self._trial(trial), reason="its process died; log.txt of the search says more"))


def _bundles(search: Search, ray: Any) -> list[dict[str, float]]:
    """The resources of one trial: its own process first, then one for each runner."""
    where = search.where
    fit = kind(search.recipe) is Fit
    first: dict[str, float] = {"CPU": (where.workers if fit else where.learners) * where.threads}
    if where.accelerator == "gpu" or (where.accelerator == "auto" and fit and ray.cluster_resources().get("GPU", 0)):
        first["GPU"] = where.workers if fit else where.learners
    return [first, *({"CPU": 1.0} for _ in range(0 if fit else where.runners))]


@contextlib.contextmanager
def _ray(where: Where, cpus: int) -> Iterator[Any]:
    """Ray: the one that is running here, the cluster at the given address, or one of our own with at least `cpus`."""
    import ray

    if ray.is_initialized():
        yield ray
        return
    connect(cluster_address(where.address), cpus)
    try:
        yield ray
    finally:
        ray.shutdown()
