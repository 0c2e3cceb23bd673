"""A search on Ray Tune, which places trials, stops bad ones early (ASHA), exchanges weights (PBT) and proposes settings.

Ray Tune runs only the trials that are left. The recorded reports of ended trials are given to ASHA and Optuna directly, without a
process for each, so that continuing a long search costs no more than its remaining trials.

Source: ASHA, Li et al. 2020 (arXiv:1810.05934), algorithm 2. Differs: rungs are percents of a trial's own training (12
and 36, a third survives each), so that recipes of any length and trials of different lengths can be compared.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import random
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray_jobs.distributed.connection import cluster_address, connect, environment
from ray_jobs.distributed.placement import trial_placement
from ray_jobs.errors import UsageError
from ray_jobs.recipe.spec import Where
from ray_jobs.run.signals import handlers_kept, stopping
from ray_jobs.tune import population, trial, trials
from ray_jobs.tune import search as searches
from ray_jobs.tune.search import Search
from ray_jobs.tune.space import Dimension, sample
from ray_jobs.tune.trial import Task
from ray_jobs.tune.trials import Trial, folder

PERTURB = 5.0
"""Least percent of the training between two exchanges of a population; in effect each checkpoint."""
DONORS_KEPT = 4
"""Checkpoints of each trial of a population that others may still take over: a trial may have to wait for its turn."""
TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # the score comes only at the end
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours also hears SIGTERM
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "90",  # a stopped trial saves first (trial.PATIENCE); then its process serves the next
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # its snapshots grow with the trials, and are never restored
    "MALLOC_ARENA_MAX": "1",  # each trial is a thread of its own: by thread, the C library kept 3 MB more of each
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


def run(task: Task, out: Path, concurrent: int | None, hear: Callable[[Trial], None]) -> bool:
    """Run the trials of a search that are left.

    Args:
        hear: called with the newest state of each trial.

    Returns:
        whether it was interrupted.

    Raises:
        UsageError: no cluster, or none with room for a trial.
    """
    with environment(TUNE_ENVIRONMENT), handlers_kept(signal.SIGUSR1), stopping(_end_tune) as interrupted:
        need = searches.cpus(task.search)
        with _ray(task.search.where, need * (concurrent or 1)) as ray:
            cpus = ray.cluster_resources().get("CPU", 0)
            if cpus < need:
                raise UsageError(f"A trial needs {need} CPUs, but the cluster has {cpus:g} in all: take fewer workers.")
            nodes = [n["Resources"] for n in ray.nodes() if n["Alive"]]
            where, bundles = trial_placement(task.search.where, searches.layout(task.search), nodes)
            task = replace(task, search=replace(task.search, where=where))
            at_once = min(concurrent or max(1, int(cpus // need)), task.search.trials)
            shutil.rmtree(out / ".tune", ignore_errors=True)  # the run folders hold the state
            with contextlib.suppress(KeyboardInterrupt):
                _tuner(task, out, at_once, bundles, Listener(out, hear, interrupted)).fit()
            shutil.rmtree(out / ".tune", ignore_errors=True)
    return interrupted.is_set()


def _end_tune() -> None:
    """Ask Tune to end by SIGUSR1; before Tune handles that signal, raise KeyboardInterrupt."""
    if signal.getsignal(signal.SIGUSR1) in (signal.SIG_DFL, signal.SIG_IGN, None):
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGUSR1)


@contextlib.contextmanager
def _ray(where: Where, cpus: int) -> Iterator[Any]:
    """Ray: the one that is running here, the cluster at the given address, or one of our own with at least `cpus`."""
    import ray

    was_here = ray.is_initialized()
    connect(cluster_address(where.address), cpus)
    try:
        yield ray
    finally:
        if not was_here:
            ray.shutdown()


def _tuner(task: Task, out: Path, at_once: int, bundles: Sequence[dict[str, float]], listener: Listener) -> Any:
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

    search, known = task.search, trials.load_all(out)
    over = {t.number for t in known if t.done}
    by_optuna, pbt = search.search == "optuna", search.scheduler == "pbt"
    scheduler = _scheduler(search, known, at_once)
    return rt.Tuner(
        rt.with_resources(partial(_trainable, task=task), rt.PlacementGroupFactory(list(bundles))),
        param_space={}
        if by_optuna
        else {"trial": rt.grid_search([s for s in starts(search, known) if s["number"] not in over])},
        tune_config=rt.TuneConfig(
            num_samples=search.trials - len(over) if by_optuna else 1,
            scheduler=scheduler,
            search_alg=_searcher(search, out, known) if by_optuna else _turns(scheduler) if pbt else None,
            max_concurrent_trials=None if pbt else at_once,
            reuse_actors=True,
            trial_name_creator=_name_of,
            trial_dirname_creator=_name_of,
        ),
        run_config=rt.RunConfig(
            name="tune",
            storage_path=str(out / ".tune"),
            failure_config=rt.FailureConfig(max_failures=search.where.max_failures),
            checkpoint_config=rt.CheckpointConfig(num_to_keep=DONORS_KEPT if pbt else None),
            callbacks=[Listening()],
            verbose=0,
        ),
    )


def _name_of(ray_trial: Any) -> str:
    return f"{ray_trial.config['trial']['number']:04d}"


def starts(search: Search, known: Sequence[Trial]) -> list[dict[str, Any]]:
    """Number and settings of each trial of a random search: the recorded settings, or those drawn for its number."""
    dimensions = search.dimensions
    recorded = {t.number: dict(t.settings) for t in known}
    numbers = range(search.trials)
    return [{"number": n, "settings": recorded.get(n) or sample(dimensions, search.seed, n)} for n in numbers]


STARTED = itertools.count()
"""The trials that this process has started."""


def _tidy() -> None:
    """Free the memory of earlier trials in this process. Models and trainers refer to each other, and in a process with so many objects
    Python collects such cycles so seldom that hundreds of trials filled the memory (13 MB each).

    The objects that the first trial imported are frozen; otherwise each collection would take as long as a short trial.
    """
    before = next(STARTED)
    if before:
        gc.collect()
    if before == 1:
        gc.freeze()


def _trainable(config: dict[str, Any], task: Task) -> None:
    """One trial, in its actor."""
    from ray import tune as rt

    _tidy()
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


# ---- schedulers


def _scheduler(search: Search, known: Sequence[Trial], at_once: int) -> Any:
    from ray.tune import schedulers

    if search.scheduler == "asha":
        asha = schedulers.ASHAScheduler(
            time_attr="percent",
            metric="progress",
            mode=search.progress_mode,
            max_t=100,
            grace_period=searches.FIRST_RUNG,
            reduction_factor=searches.SURVIVORS,
            stop_last_trials=False,
        )
        _teach(asha, [t for t in known if t.done])
        return asha
    if search.scheduler == "pbt":
        return _population(search, search.trials - sum(t.done for t in known), at_once)
    return schedulers.FIFOScheduler()


def _teach(asha: Any, over: Sequence[Trial]) -> None:
    """Put the reports of ended trials on ASHA's rungs."""
    for t in over:
        before = SimpleNamespace(trial_id=f"before-{t.name}")
        asha.on_trial_add(None, before)
        for percent, value in t.reports:
            asha.on_trial_result(None, before, {"percent": percent, "progress": value})


def _population(search: Search, size: int, at_once: int) -> Any:
    from ray.tune.schedulers import PopulationBasedTraining

    class Population(PopulationBasedTraining):
        """A whole population exists at the same time; `at_once` of its members train, each from one checkpoint to the next.

        Differs: Ray Tune's own trains as many as find room; with a limit on concurrent trials, its population is no larger than the limit.
        """

        def __init__(self) -> None:
            super().__init__(
                time_attr="percent",
                metric="progress",
                mode=search.progress_mode,
                perturbation_interval=PERTURB,
                custom_explore_fn=partial(_explored, search=search, rng=random.Random(search.seed)),
                require_attrs=False,
                log_config=False,
            )
            self.members: list[Any] = []

        def full(self) -> bool:
            """Whether `at_once` members train already."""
            return sum(t.status in ("PENDING", "RUNNING") for t in self.members) >= at_once

        def on_trial_add(self, controller: Any, member: Any) -> None:
            super().on_trial_add(controller, member)
            if member not in self.members:  # one whose process died is added again
                self.members.append(member)

        def on_trial_result(self, controller: Any, member: Any, result: dict[str, Any]) -> str:
            decision = super().on_trial_result(controller, member, result)
            waits = len(self.members) < size and "percent" in result
            return self.PAUSE if waits and decision == self.CONTINUE else decision

        def choose_trial_to_run(self, controller: Any) -> Any:
            return None if self.full() else super().choose_trial_to_run(controller)

    return Population()


def _turns(scheduler: Any) -> Any:
    from ray.tune.search.basic_variant import BasicVariantGenerator

    class Turns(BasicVariantGenerator):
        """A population's trials in order, each when there is a free slot."""

        def next_trial(self) -> Any:
            return None if scheduler.full() else super().next_trial()

    return Turns()


def _explored(config: dict[str, Any], search: Search, rng: random.Random) -> dict[str, Any]:
    """A donor's configuration with each setting perturbed."""
    old = config["trial"]["settings"]
    settings = {name: d.perturbed(old[name], rng) for name, d in search.dimensions.items()}
    return {"trial": {**config["trial"], "settings": settings}}


# ---- proposals


def _searcher(search: Search, out: Path, known: Sequence[Trial]) -> Any:
    """Optuna's proposals, numbered; in a continued search it knows how trials ended, and proposes the unfinished ones first."""
    from ray.tune.search import Searcher
    from ray.tune.search.optuna import OptunaSearch

    unfinished, dimensions = [t for t in known if not t.done], search.dimensions
    inner = OptunaSearch(
        OptunaSearch.convert_search_space(_distributions(search)),
        metric="score",
        mode=search.mode,
        seed=random.Random(f"{search.seed}/{len(known)}").getrandbits(31),  # one seed would propose the first again
        points_to_evaluate=[_encoded(t.settings, search) for t in unfinished] or None,
    )
    for t in (t for t in known if t.done):
        inner.add_evaluated_point(
            _encoded(t.settings, search), t.score, error=t.state == "failed", pruned=t.state == "stopped"
        )

    class Numbered(Searcher):
        """Optuna with numbered trials; the settings are written before the training starts."""

        numbers = itertools.chain([t.number for t in unfinished], itertools.count(len(known)))

        def suggest(self, trial_id: str) -> dict[str, Any]:
            drawn = inner.suggest(trial_id)
            settings = {name: d.decoded(drawn[name]) for name, d in dimensions.items()}
            started = trial.begin(out, next(self.numbers), settings)
            return {"trial": {"number": started.number, "settings": dict(started.settings)}}

        def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
            """Do nothing: Optuna learns from final scores; progress may be another metric."""

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            inner.on_trial_complete(trial_id, result, error or "failed" in (result or {}))

        def save(self, checkpoint_path: str) -> None:
            """Do nothing: the run folders hold the state."""

        def restore(self, checkpoint_path: str) -> None:
            """Do nothing: the run folders hold the state."""

    return Numbered(metric="score", mode=search.mode)


def _encoded(settings: Mapping[str, Any], search: Search) -> dict[str, Any]:
    """Recorded settings as numbers, see `Dimension.encoded`."""
    return {name: d.encoded(settings[name]) for name, d in search.dimensions.items()}


def _distributions(search: Search) -> dict[str, Any]:
    """The space in Ray Tune's words, of encoded values."""
    return {name: _distribution(d) for name, d in search.dimensions.items()}


def _distribution(dimension: Dimension) -> Any:
    from ray import tune as rt

    if dimension.form == "choice":
        return rt.choice(list(range(len(dimension.args))))
    if dimension.form == "quniform":
        lowest, highest = dimension.multiples
        return rt.randint(lowest, highest + 1)
    return getattr(rt, dimension.form)(*dimension.args)


# ---- events


@dataclass
class Listener:
    """Passes Ray Tune's events about trials on to the leaderboard."""

    out: Path
    hear: Callable[[Trial], None]
    interrupted: threading.Event

    def _trial(self, ray_trial: Any) -> Trial:
        number = int(str(ray_trial))
        return trials.load(folder(self.out, number)) or Trial(number, ray_trial.config["trial"]["settings"])

    def on_trial_result(self, trial: Any, **_: Any) -> None:
        """Pass on a report."""
        self.hear(self._trial(trial))

    def on_trial_complete(self, trial: Any, **_: Any) -> None:
        """Pass on the end of a trial; one without a recorded end was stopped by the scheduler."""
        ended = self._trial(trial)
        if not ended.done and not self.interrupted.is_set():
            ended = replace(ended, state="stopped")
            trials.save(folder(self.out, ended.number), ended)
        self.hear(ended)

    def on_trial_error(self, trial: Any, **_: Any) -> None:
        """Pass on that a trial's processes died too often; it is tried again when the search is resumed."""
        self.hear(replace(self._trial(trial), reason="its process died; log.txt of the search says more"))
