"""`reprise reproduce`: run a recipe's seeds, compute the statistics, check the claim, write down what was measured."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ray_jobs import attempt, record, results, seeds
from ray_jobs.attempt import own
from ray_jobs.interrupts import heard, interrupt
from ray_jobs.on_ray import Whereabouts, cause, connect, head_watched, tell_where
from ray_jobs.recipe import Claim, Fit, UsageError, kind, module
from ray_jobs.results import Result
from ray_jobs.run import Where
from ray_jobs.seeds import Seed, held, members, on_machine

WIDE = 96
"""Columns of a terminal that has room for the interquartile mean."""


def reproduce(
    recipes: list[str],
    *,
    seeds: int | None = None,
    settings: dict[str, Any] | None = None,
    out: str = record.OUT,
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
    """Train recipes with several seeds and say whether their claims hold.

    Finished seeds are not run again and unfinished ones are resumed, so the same command goes on after a kill.

    Args:
        recipes: recipes that make a claim.
        seeds: how many seeds, 0, 1, 2 ...; by default as many as the claim names.
        settings: what differs from the recipe's own settings, as '{"lr": 0.001}'; such a result is kept apart from the
            recipe's record.
        out: folder or URI of the runs, <out>/<recipe>/seed-<n>; on a cluster it must be shared storage.
        results: folder that the measured results are written to; by default the project's results/.
        jobs: processes, of one seed or of those that train together, at the same time; by default as many as the cores (and GPUs)
            can hold.
        together: seeds of an agent that train in one process, their networks' sums done at once, each leaving the run that it leaves
            alone. It is for small networks: with 256 units and more the sums themselves take the time, and --jobs shares them better.
        address: a Ray cluster to run the seeds on, one task for each; by default RAY_ADDRESS; 'local' is this machine.
        workers: data-parallel processes of each run of a generative model.
        runners: Ray actors that play the environments of each run of an agent; 0 plays them in the learner's process.
        learners: processes that share the updates of each run of an agent.
        accelerator: auto, cpu or gpu.
        threads: CPU threads of each process.

    Returns:
        0 if every claim holds, 1 if one does not, 130 if stopped. One of several tasks (REPRISE_TASK) runs its share of the seeds,
        records nothing, and returns 1 where one failed.

    Raises:
        UsageError: an unknown recipe or setting, a recipe without a claim, runs of other settings in `out`.
    """
    where = Where(workers, runners, learners, accelerator, threads)
    plans = {name: plan(name, seeds, settings or {}, out, where, together) for name in recipes}
    each = {name: needs(name, where) for name in recipes}
    widest = Needs(max((n.cpus for n in each.values()), default=1), max((n.gpus for n in each.values()), default=0))
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    local = address == "local"
    starter, places = on_machine(*widest) if local else on_cluster(address, *widest, of=each, lives=where.max_failures)
    limit = places if jobs is None else jobs if local else min(jobs, places)
    if limit < 1:
        raise UsageError(f"--jobs must be at least 1, not {jobs}.")
    part = attempt.share()
    if part is not None:
        return work(own([seed for plan in plans.values() for seed in plan], part), starter, limit)
    measured = measure(plans, starter, limit, target=lambda r: record.place(r, results, out))
    return 130 if measured is None else int(not all(r.holds for r in measured))


# ---- before anything starts


def plan(
    recipe: str, count: int | None, settings: Mapping[str, Any], out: str, where: Where, together: int = 1
) -> list[Seed]:
    """The seeds of one recipe, refused where they cannot be run.

    Raises:
        UsageError: see `reproduce`.
    """
    from ray_jobs.settings import check
    from ray_jobs.together import refuse

    claim = claim_of(recipe)
    given = check(recipe, settings, where)
    n = claim.seeds if count is None else count
    if n < 1:
        raise UsageError(f"--seeds must be at least 1, not {n}.")
    if together < 1:
        raise UsageError(f"--together must be at least 1, not {together}.")
    if together > 1:
        refuse(recipe, given, where)
    root = out if "://" in out else str(Path(out).resolve())
    planned = [Seed(recipe, i, f"{root}/{recipe}/seed-{i}", given, where, together) for i in range(n)]
    for seed in planned:
        refuse_others(seed)
    return planned


def claim_of(recipe: str) -> Claim:
    """The recipe's claim.

    Raises:
        UsageError: it makes none.
    """
    claim = getattr(module(recipe), "claim", None)
    if claim is None:
        raise UsageError(f"{recipe} makes no claim to reproduce: train it with 'reprise train {recipe}'.")
    return claim


def refuse_others(seed: Seed) -> None:
    """Refuse a folder that holds a run of something else."""
    from ray_jobs.settings import known

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


class Needs(NamedTuple):
    """What one run holds of a node."""

    cpus: int
    gpus: int = 0


def needs(recipe: str, where: Where) -> Needs:
    """CPU threads that one run keeps busy, and its GPUs: an agent's networks are small, and take some only where told to."""
    fits = kind(recipe) is Fit
    threads = (where.workers if fits else where.learners * (1 + where.runners)) * where.threads
    wanted = where.accelerator == "gpu" or (where.accelerator == "auto" and fits)
    return Needs(threads, (where.workers if fits else where.learners) if wanted else 0)


# ---- where the seeds run


def on_cluster(
    address: str,
    width: int,
    each: int = 0,
    build: seeds.Build = seeds.command,
    of: Mapping[str, Needs] | None = None,
    lives: int = 0,
) -> tuple[seeds.Start, int]:
    """Seeds as tasks of a Ray cluster, whose nodes must all see the same `out`: how to start one, and how many find room at a time.

    Args:
        address: of the cluster.
        width: CPUs of a seed whose recipe is not in `of`.
        each: its GPUs, if there are any.
        build: the command of a seed.
        of: what a recipe's seeds need.
        lives: how often a seed whose worker or node dies is begun again.

    Raises:
        UsageError: the cluster cannot be reached, or no node can hold one seed.
    """
    ray = connect(address)
    nodes = [n["Resources"] for n in ray.nodes() if n["Alive"]]
    cards = any(n.get("GPU") for n in nodes)
    sizes = {name: n if cards else Needs(n.cpus) for name, n in ({"": Needs(width, each)} | dict(of or {})).items()}
    kinds = {sizes[name] for name in of or [""]}
    for size in kinds:
        refuse_narrow(address, size, nodes)
    # a process that served again would stay ours as long as we have seeds, and another job on the cluster would wait
    task = ray.remote(max_retries=0, max_calls=1)(run_there)
    where = Whereabouts(ray)

    def start(unit: seeds.Unit, place: int) -> seeds.Process:
        need = sizes[members(unit)[0].recipe if of else ""]
        sized = task.options(num_cpus=need.cpus, num_gpus=need.gpus)

        def begin(name: str) -> Any:
            return sized.remote(build(unit), sys.executable, str(unit.log), where.mail, name)

        return RayProcess(begin, unit, lives, where.lost)

    return start, sum(room(node, kinds) for node in nodes)


def room(node: Mapping[str, float], kinds: Collection[Needs]) -> int:
    """How many runs of these kinds fill a node: first as many as it holds of those that need most GPUs, the others in what is left."""
    cpus, gpus, runs = node.get("CPU", 0), node.get("GPU", 0), 0
    for need in sorted(kinds, key=lambda n: (n.gpus, n.cpus), reverse=True):
        many = int(min(cpus // need.cpus, gpus // need.gpus if need.gpus else math.inf))
        cpus, gpus, runs = cpus - many * need.cpus, gpus - many * need.gpus, runs + many
    return runs


def refuse_narrow(address: str, need: Needs, nodes: Sequence[Mapping[str, float]]) -> None:
    """Refuse what no node could hold."""
    if not any(room(node, [need]) for node in nodes):
        most = max((int(n.get("CPU", 0)) for n in nodes), default=0)
        raise UsageError(
            f"A run needs {need.cpus} CPUs and {need.gpus} GPUs on one node; the widest node of {address} has {most} CPUs."
        )


def run_there(argv: list[str], python: str, log: str, mail: Any, name: str) -> tuple[int, list[str]]:
    """In a Ray task: run the command, by this node's Python for the driver's; stop it when the task is cancelled."""
    tell_where(mail, name)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as where a script in the background began the cluster
        signal.signal(signal.SIGINT, signal.default_int_handler)  # by which ray.cancel reaches us
    ours = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}  # the packages that Ray shipped, for the child too
    command = seeds.bound([sys.executable if word == python else word for word in argv])
    child = seeds.LocalProcess(command, Path(log), ours)
    try:
        while child.poll() is None:  # in steps: ray.cancel interrupts Python, not a blocking wait
            time.sleep(0.2)
    finally:
        seeds.stop([child])
    return child.poll() or 0, child.tail()


class RayProcess:
    """A seed as a Ray task. Where its worker or node dies it is begun again, and goes on from its newest checkpoint.

    Args:
        begin: starts the task, under a name of its own.
        unit: what it trains.
        lives: how often it is begun again.
        lost: whether the node on which the task of a name runs is gone.
    """

    def __init__(
        self,
        begin: Callable[[str], Any],
        unit: seeds.Unit,
        lives: int = 0,
        lost: Callable[[str], bool] = lambda name: False,
    ) -> None:
        self._begin, self._unit, self._lives, self._lost, self._said = begin, unit, lives, lost, []
        self._begin_task()

    def _begin_task(self) -> None:
        self._name = uuid.uuid4().hex
        self._reference = self._begin(self._name)
        self._answer = self._reference.future()  # completed by Ray itself: to look at it costs no call
        self._died = False

    def poll(self) -> int | None:
        import ray

        if self._died and not any(map(held, members(self._unit))):  # whoever has the folder yet may be saving
            for seed in members(self._unit):
                seeds.fetch(seed)
            self._begin_task()
        if self._died:
            return None
        if not self._answer.done():
            return self._after("its node is gone") if self._lost(self._name) else None
        try:
            code, self._said = self._answer.result()
        except ray.exceptions.RayError as error:
            mendable = not isinstance(error, ray.exceptions.RayTaskError | ray.exceptions.TaskCancelledError)
            return self._after(cause(error), mendable=mendable)
        return code

    def _after(self, why: str, *, mendable: bool = True) -> int | None:
        """What becomes of a seed whose task is dead: None where it is to be begun again, else its exit code."""
        if not (self._lives and mendable):
            self._said = [f"its Ray task died: {why}"]
            return 1
        self._lives, self._died = self._lives - 1, True
        say(f"{members(self._unit)[0]}: {why}; it is begun again.")
        return None

    def tail(self) -> list[str]:
        return self._said or seeds.last_lines(self._unit.log)

    def terminate(self) -> None:
        self._cancel(force=False)

    def kill(self) -> None:
        self._cancel(force=True)

    def _cancel(self, *, force: bool) -> None:
        import ray

        self._lives, self._died = 0, False
        ray.cancel(self._reference, force=force)


# ---- running, and writing down


def measure(
    plans: Mapping[str, list[Seed]], start: seeds.Start, jobs: int, target: Callable[[Result], Path]
) -> list[Result] | None:
    """Run what has not finished, then record every recipe's result where `target` says; None if stopped by Ctrl-C."""
    why = run_all([seed for plan in plans.values() for seed in plan], start, jobs)
    if why is None:
        for plan in plans.values():
            say(f"  {record.retrace(plan)}")
        return None
    measured = []
    for name, plan in plans.items():
        result = record.collect(
            claim_of(name), plan, {s.number: why[s] for s in plan if s in why}, jobs * plan[0].together
        )
        say(f"Recorded in {record.keep(result, plan, target(result))}")
        measured.append(result)
    show(measured)
    return measured


def run_all(planned: Sequence[Seed], start: seeds.Start, jobs: int) -> dict[Seed, str] | None:
    """Run the seeds that have not finished; why some failed, or None if stopped."""
    from ray_jobs.board import board

    waiting = [seed for seed in planned if seed.run.result is None]
    if len(waiting) < len(planned):
        earlier = f"{len(planned) - len(waiting)} of {len(planned)} seeds finished earlier and are not run again"
        say(f"{earlier}; another --out measures afresh.")
    try:
        lost = head_watched(lambda why: give_up(why, planned))
        with lost, heard(interrupt), board(waiting, {s.recipe: claim_of(s.recipe).metric for s in planned}) as tell:
            return seeds.execute(seeds.grouped(waiting), start, jobs, tell)
    except KeyboardInterrupt:
        done = sum(seed.run.result is not None for seed in planned)
        say(f"Stopped with {done} of {len(planned)} seeds finished. Go on with the same command:")
        return None


def give_up(why: str, planned: Sequence[Seed]) -> None:
    """End this process, whatever it waits for: the cluster is gone. Seeds that were at work have saved, or go on from a checkpoint."""
    from rich.console import Console

    Console().show_cursor()  # the table has hidden it
    done = sum(seed.run.result is not None for seed in planned)
    say(f"{why} {done} of {len(planned)} seeds have finished. On a cluster that is up, the same command goes on.")
    os._exit(1)


def work(planned: Sequence[Seed], start: seeds.Start, jobs: int) -> int:
    """One task's share of the seeds; whoever gathers them records the result."""
    why = run_all(planned, start, jobs)
    for seed, reason in (why or {}).items():
        say(f"{seed} failed: {reason}")
    return 130 if why is None else int(bool(why))


def say(line: str) -> None:
    print(line, flush=True)


def show(measured: Sequence[Result]) -> None:
    """The table, and below it why seeds failed."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    wide = console.width >= WIDE
    heads = ["recipe", "claim", escape("mean [95%]"), *(["IQM"] if wide else []), "seeds", "time", "verdict"]
    table = Table(*heads, box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
    for r in measured:
        metric, _, bound = str(r.claim).partition(" ")
        iqm = [results.short(r.iqm) if r.iqm is not None else ""] if wide else []
        seeds_done = results.count(r).partition(" seed")[0]
        told = f"[{'green' if r.holds else 'red'}]{r.verdict}[/]"
        mean, bracket, interval = results.describe(r).partition(" [")
        found = [f"{mean}\n[dim]{escape(bracket.strip() + interval)}", *iqm, seeds_done, results.median(r), told]
        table.add_row(f"{r.recipe}\n[dim]{metric}", bound, *found)
    console.print(table)
    for r in measured:
        for number, reason in r.failures.items():
            console.print(f"{r.recipe} seed {number} failed: {reason}", markup=False, highlight=False, soft_wrap=True)
