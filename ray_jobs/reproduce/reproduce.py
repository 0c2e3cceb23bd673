"""`reprise reproduce`: run a recipe's seeds, compute the statistics, check the claim and record the result."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray_jobs.distributed.connection import cluster_address
from ray_jobs.distributed.head import head_watched
from ray_jobs.errors import UsageError, printable
from ray_jobs.recipe import loading
from ray_jobs.recipe.loading import kind
from ray_jobs.recipe.settings import RecipeName
from ray_jobs.recipe.spec import Where
from ray_jobs.reproduce import aggregate, seeds
from ray_jobs.reproduce.seeds import Seed, on_machine
from ray_jobs.reproduce.seeds_on_ray import Needs, on_cluster
from ray_jobs.results import store as results
from ray_jobs.results.store import Result
from ray_jobs.run import job_context
from ray_jobs.run.folder import Run
from ray_jobs.run.job_context import own
from ray_jobs.run.place import Place
from ray_jobs.run.signals import calling, interrupt
from ray_jobs.terminal import console

UNCLAIMED_SEEDS = 5
"""Seeds of a recipe without a claim, where their number is not given."""
WIDE = 96
"""Columns of a terminal that has room for the interquartile mean."""


def reproduce(
    recipes: list[RecipeName],
    *,
    seeds: int | None = None,
    first_seed: int = 0,
    settings: dict[str, Any] | None = None,
    out: str = aggregate.OUT,
    results: str | None = None,
    jobs: int | None = None,
    together: int = 1,
    address: str | None = None,
    workers: int = 1,
    runners: int = 0,
    learners: int = 1,
    accelerator: str = "auto",
    threads: int = 1,
) -> int:
    """Train recipes over several seeds and check their claims.

    Finished seeds are not run again and unfinished ones are resumed, so the same command continues after a kill.

    Args:
        recipes: recipes, or systems by their own names; one without a claim gets means and intervals.
        seeds: how many seeds, 0, 1, 2 ...; by default as many as the claim names, or 5.
        first_seed: the first of them. Seeds that do not start at 0 are recorded apart, next to the first ones: claims were set after
            those were seen, so only fresh seeds, such as 100 to 109, show whether a claim is luck.
        settings: what differs from the recipe's own settings, as '{"lr": 0.001}'; such a result is kept apart from the
            recipe's record.
        out: folder or URI of the runs, <out>/<recipe>/seed-<n>; on a cluster it must be shared storage.
        results: folder that the measured results are written to; by default the project's results/.
        jobs: processes, of one seed or of those that train together, at the same time; by default as many as the cores (and GPUs)
            can hold.
        together: seeds of an agent that train in one process, which computes their networks together; each has the run folder that it
            would have alone. It is for small networks: with 256 units and more, --jobs is faster.
        address: a Ray cluster to run the seeds on, one task for each; by default RAY_ADDRESS; 'local' is this machine.
        workers: data-parallel processes of each run of a generative model.
        runners: Ray actors that play the environments of each run of an agent; 0 plays them in the learner's process.
        learners: processes that share the updates of each run of an agent.
        accelerator: auto, cpu or gpu.
        threads: CPU threads of each process.

    Returns:
        0 if every claim holds (and every recipe without one gave a value), 1 if one does not, 130 if stopped. One of several
        tasks (REPRISE_TASK) runs its share of the seeds,
        records nothing, and returns 1 where one failed.

    Raises:
        UsageError: an unknown recipe or setting, runs of other settings in `out`.
    """
    where = Where(workers, runners, learners, accelerator, threads)
    plans = {name: plan(name, seeds, settings or {}, out, where, together, first_seed) for name in recipes}
    address = cluster_address(address) or "local"
    starter, slots = starting(recipes, where, address)
    limit = slots if jobs is None else jobs if address == "local" else min(jobs, slots)
    if limit < 1:
        raise UsageError(f"--jobs must be at least 1, not {jobs}.")
    part = job_context.share()
    if part is not None:
        return work(own([seed for plan in plans.values() for seed in plan], part), starter, limit)
    measured = measure(plans, starter, limit, target=lambda r: aggregate.results_folder(r, results, out))
    return 130 if measured is None else int(not all(r.holds or (r.claim is None and r.values) for r in measured))


# ---- before anything starts


def plan(
    recipe: str,
    count: int | None,
    settings: Mapping[str, Any],
    out: str,
    where: Where,
    together: int = 1,
    first: int = 0,
) -> list[Seed]:
    """The seeds of one recipe.

    Raises:
        UsageError: see `reproduce`.
    """
    from ray_jobs.recipe.settings import check
    from ray_jobs.reproduce.seeds_together import refuse

    claim = loading.recipe(recipe).claim
    given = check(recipe, settings, where)
    usual = claim.seeds if claim else UNCLAIMED_SEEDS
    n = usual if count is None else count
    if n < 1:
        raise UsageError(f"--seeds must be at least 1, not {n}.")
    if first < 0:
        raise UsageError(f"--first_seed must be at least 0, not {first}.")
    if together < 1:
        raise UsageError(f"--together must be at least 1, not {together}.")
    if together > 1:
        refuse(recipe, given, where)
    root = out if "://" in out else str(Path(out).resolve())
    planned = [Seed(recipe, i, f"{root}/{recipe}/seed-{i}", given, where, together) for i in range(first, first + n)]
    for seed in planned:
        refuse_others(seed)
    return planned


def refuse_others(seed: Seed) -> None:
    """Refuse a folder that holds another run.

    Raises:
        UsageError: its recipe, seed or settings differ.
    """
    from ray_jobs.recipe.settings import known

    run = seeds.fetch(seed)
    found = run.read("run.json")
    if found is None:
        return
    usual = {s.name: s.default for s in known(seed.recipe).values()}
    there, wanted = usual | found["settings"], usual | dict(seed.settings)
    differ = sorted(k for k in there | wanted if there.get(k) != wanted.get(k))
    if found["recipe"] != seed.recipe or found["seed"] != seed.number or differ:
        what = f"other settings ({', '.join(differ)})" if differ else f"{found['recipe']}, seed {found['seed']}"
        raise UsageError(f"{run} holds a run of {what}: choose another --out.")


def needs(recipe: str, where: Where) -> Needs:
    """CPU threads and GPUs of one run; an agent's networks are small, so it takes GPUs only with --accelerator gpu."""
    layout = kind(loading.recipe(recipe)).layout(where)
    wanted = where.accelerator == "gpu" or (where.accelerator == "auto" and layout.gpu)
    return Needs(layout.cpus(where.threads), layout.group if wanted else 0)


def starting(recipes: Sequence[str], where: Where, address: str) -> tuple[seeds.Start, int]:
    """What starts a run of these recipes, and how many runs there is room for.

    Args:
        recipes: their names.
        where: how each run is laid out.
        address: of a Ray cluster; 'local' is this machine.
    """
    each = {name: needs(name, where) for name in recipes}
    widest = Needs(max((n.cpus for n in each.values()), default=1), max((n.gpus for n in each.values()), default=0))
    if address == "local":
        return on_machine(*widest)
    return on_cluster(address, *widest, of=each, restarts=where.max_failures)


# ---- running and recording


def measure(
    plans: Mapping[str, list[Seed]], start: seeds.Start, jobs: int, target: Callable[[Result], Path]
) -> list[Result] | None:
    """Run the unfinished seeds, then record each recipe's result in the folder that `target` gives; None if stopped by Ctrl-C."""
    with alone(plans.values()):
        why = run_all([seed for plan in plans.values() for seed in plan], start, jobs)
    if why is None:
        for plan in plans.values():
            say(f"  {aggregate.retrace(plan)}")
        return None
    measured = []
    for name, plan in plans.items():
        result = aggregate.collect(
            loading.recipe(name).claim, plan, {s.number: why[s] for s in plan if s in why}, jobs * plan[0].together
        )
        say(f"Recorded in {aggregate.keep(result, plan, target(result))}")
        measured.append(result)
    show(measured)
    return measured


@contextlib.contextmanager
def alone(plans: Iterable[list[Seed]]) -> Iterator[None]:
    """Keep other reproductions out of the folders of recipes whose seeds have not all finished.

    Raises:
        UsageError: another one is at work in such a folder, or it cannot be written.
    """
    with contextlib.ExitStack() as held:
        for plan in plans:
            if any(seed.run.result is None for seed in plan):
                name = plan[0].folder.rpartition("/")[0]
                place = Place(Run.at(name).path, name)
                held.callback(place.release)
                place.enter()
        yield


def run_all(planned: Sequence[Seed], start: seeds.Start, jobs: int) -> dict[Seed, str] | None:
    """Run the seeds that have not finished; returns the reasons of those that failed, or None if stopped."""
    from ray_jobs.reproduce.board import board

    waiting = [seed for seed in planned if seed.run.result is None]
    if len(waiting) < len(planned):
        earlier = f"{len(planned) - len(waiting)} of {len(planned)} seeds finished earlier and are not run again"
        say(f"{earlier}; another --out measures them all.")
    try:
        lost = head_watched(lambda why: give_up(why, planned))
        with lost, calling(interrupt), board(waiting, {s.recipe: _wanted(s.recipe) for s in planned}) as tell:
            return seeds.execute(seeds.grouped(waiting), start, jobs, tell)
    except KeyboardInterrupt:
        done = sum(seed.run.result is not None for seed in planned)
        say(f"Stopped with {done} of {len(planned)} seeds finished. Continue with the same command:")
        return None


def give_up(why: str, planned: Sequence[Seed]) -> None:
    """End this process at once, because the cluster is gone. Running seeds have saved, or continue from a checkpoint."""
    console().show_cursor()  # the table has hidden it
    done = sum(seed.run.result is not None for seed in planned)
    say(f"{why} {done} of {len(planned)} seeds have finished. On a cluster that is up, the same command continues.")
    os._exit(1)


def work(planned: Sequence[Seed], start: seeds.Start, jobs: int) -> int:
    """Run one task's share of the seeds; the job that gathers all tasks records the result."""
    why = run_all(planned, start, jobs)
    for seed, reason in (why or {}).items():
        say(f"{seed} failed: {reason}")
    return 130 if why is None else int(bool(why))


def _wanted(recipe: str) -> str:
    """The metric to show while seeds train: the claim's, or the kind's."""
    found = loading.recipe(recipe)
    return found.claim.metric if found.claim else kind(found).progress


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def show(measured: Sequence[Result]) -> None:
    """Print the table of results, and below it why seeds failed."""
    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    out = console()
    wide = out.width >= WIDE
    heads = ["recipe", "claim", escape("mean [95%]"), *(["IQM"] if wide else []), "seeds", "time", "verdict"]
    table = Table(*heads, box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
    for r in measured:
        metric, _, bound = str(r.claim).partition(" ") if r.claim else (r.metric, "", "none")
        iqm = [results.short(r.iqm) if r.iqm is not None else ""] if wide else []
        seeds_done = results.count(r).partition(" seed")[0]
        verdict = f"[{'green' if r.holds else 'red' if r.claim else 'default'}]{r.verdict}[/]"
        mean, bracket, interval = results.describe(r).partition(" [")
        found = [f"{mean}\n[dim]{escape(bracket.strip() + interval)}", *iqm, seeds_done, results.median(r), verdict]
        table.add_row(f"{r.recipe}\n[dim]{metric}", bound, *found)
    out.print(table)
    for r in measured:
        for number, reason in r.failures.items():
            out.print(printable(f"{r.recipe} seed {number} failed: {reason}"), markup=False, soft_wrap=True)
