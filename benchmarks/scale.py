"""What it costs to run a great many seeds: the driver alone with made-up processes, and all of it on a simulated cluster of many nodes.

The cluster reproduces every recipe that makes a claim, with so many seeds each, through the code that `reprise reproduce --address` runs:
plans, Ray tasks, looks, the board, the records. Each seed's command leaves a finished run at once in place of training. So what is timed
is what scheduling costs; on this machine most of that is the start of a worker's process for each seed, which nodes of a real cluster
share out. `python -m benchmarks.sizes` computes what cannot be run here.

    python -m benchmarks.scale --nodes 4 --cpus 16 --again
    python -m benchmarks.scale --nodes 64 --cpus 16 --again --jobs 128
    python -m benchmarks.scale --nodes               the driver alone
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import simulated
from benchmarks.harness import Report, Row, arguments
from ray_jobs.recipe.loading import names
from ray_jobs.recipe.loading import recipe as of_name
from ray_jobs.recipe.spec import Where
from ray_jobs.reproduce import reproduce, seeds, seeds_on_ray
from ray_jobs.reproduce.board import board
from ray_jobs.reproduce.seeds import Seed

READY = """
import json, os, sys, time
folder, recipe, seed, metric, value, hold, node = sys.argv[1:]
place = {"node": os.environ.get(node), "cards": os.environ.get("CUDA_VISIBLE_DEVICES", ""), "started": time.time()}
os.makedirs(folder, exist_ok=True)
def leave(name, what):
    with open(f"{folder}/{name}", "w") as f:
        f.write(json.dumps(what) + chr(10))
head = {"settings": {}, "host": "node", "versions": {}, "git": None, "where": {}}
leave("run.json", head | {"recipe": recipe, "seed": int(seed)})
leave("status.json", {"step": 1, "steps": 2})
leave("metrics.jsonl", {"step": 1, "time": 0.0, metric: float(value)})
time.sleep(float(hold))
found = {"metrics": {metric: float(value)}, "step": 2, "seconds": 0.0, "device": "cpu", "cores": 1}
leave("result.json", found)
leave("place.json", place | {"ended": time.time()})
"""
"""What stands in for `reprise train`: a finished run, and where it was."""
DRIVEN = (64, 512, 2048)
"""Seeds at work at the same time under a driver without a cluster."""
SCREEN = {"width": 160, "height": 50}

opened = 0


def count_opens() -> None:
    """From now on, count the files that this process opens."""

    def heard(event: str, _: Any) -> None:
        global opened
        opened += event == "open"

    sys.addaudithook(heard)


@contextlib.contextmanager
def cost() -> Iterator[dict[str, float]]:
    """Fills in the seconds that the block took, this process's share of a core meanwhile, and the files that it opened a second."""
    found: dict[str, float] = {}
    before, started, cpu = opened, time.monotonic(), time.process_time()
    yield found
    took = time.monotonic() - started
    used = time.process_time() - cpu
    found |= {
        "wall_s": took,
        "driver_cpu_s": used,
        "driver_core_share": used / took,
        "opens_per_s": (opened - before) / took,
    }


def bound(recipe: str) -> float:
    """The bound of the recipe's claim."""
    claim = of_name(recipe).claim
    return claim.at_least if claim.at_least is not None else claim.at_most


def ready(seed: Any, hold: float = 0.0) -> list[str]:
    """The command that leaves a finished run of a seed."""
    numbers = [str(seed.number), of_name(seed.recipe).claim.metric, str(bound(seed.recipe)), str(hold)]
    return [sys.executable, "-S", "-c", READY, seed.folder, seed.recipe, *numbers, simulated.NODE]


# ---- the driver alone


class Busy:
    """A process that is always at work, until the driver has looked for so many seconds."""

    looks = 0

    def __init__(self, until: float) -> None:
        self.until = until

    def poll(self) -> int | None:
        """Count the check; 1 once the time is over."""
        Busy.looks += 1
        return None if time.monotonic() < self.until else 1

    def tail(self) -> list[str]:
        """No lines."""
        return []


def driver(n: int, terminal: bool, seconds: float) -> Row:
    """A driver with `n` seeds at work, which looks at them for some seconds and draws the board."""
    with tempfile.TemporaryDirectory() as folder:
        plan = [Seed("ppo_cartpole", i, f"{folder}/{i}") for i in range(n)]
        for seed in plan:
            Path(seed.folder).mkdir()
            (Path(seed.folder) / "status.json").write_text('{"step": 1, "steps": 2}')
            (Path(seed.folder) / "metrics.jsonl").write_text('{"step": 1, "time": 0.1, "episode_return": 1.0}\n')
        with screen(terminal), board(plan, {"ppo_cartpole": "episode_return"}) as tell:
            Busy.looks, until = 0, time.monotonic() + seconds
            with cost() as found:
                seeds.execute(plan, lambda unit, place: Busy(until), n, tell)
    polls = Busy.looks / n
    return {"polls_per_s": polls / found["wall_s"], "cpu_ms_per_poll": 1000 * found["driver_cpu_s"] / polls, **found}


@contextlib.contextmanager
def screen(terminal: bool) -> Iterator[None]:
    """Draw into nothing, as on a terminal, or as into a file."""
    from unittest import mock

    import rich.console

    made = rich.console.Console(file=io.StringIO(), force_terminal=terminal, highlight=False, **SCREEN)
    with mock.patch.object(rich.console, "Console", return_value=made):
        yield


# ---- a simulated cluster


class Watched:
    """A seed's process, whose looks are counted, and which is given up after a time."""

    looks = 0

    def __init__(self, process: seeds.Process, until: float) -> None:
        self.until, self.tail, self.terminate, self.kill = until, process.tail, process.terminate, process.kill
        self._process = process

    def poll(self) -> int | None:
        """Count the check, and pass it on; 1 once the time is over."""
        Watched.looks += 1
        code = self._process.poll()
        return 1 if code is None and time.monotonic() > self.until else code


class Sampler(threading.Thread):
    """The most CPUs and GPUs that the cluster has given out, and the most memory that the machine was short of, twice a second."""

    def __init__(self, ray: Any) -> None:
        super().__init__(daemon=True)
        self.ray, self.whole, self.over = ray, ray.cluster_resources(), threading.Event()
        self.free, self.most = available(), Counter[str]()
        self.start()

    def run(self) -> None:
        """Sample twice a second until it is stopped."""
        while not self.over.wait(0.5):
            left = self.ray.available_resources()
            now = {f"peak_{k.lower()}s": self.whole[k] - left.get(k, 0.0) for k in ("CPU", "GPU") if k in self.whole}
            now["peak_memory_mib"] = (self.free - available()) / 2**20
            self.most |= Counter(now)


def available() -> int:
    """Bytes of this machine's memory that are free."""
    line = next(x for x in Path("/proc/meminfo").read_text().splitlines() if x.startswith("MemAvailable:"))
    return int(line.split()[1]) * 1024


def reproduction(
    nodes: int,
    cpus: int,
    gpus: int,
    count: int,
    hold: float,
    jobs: int | None,
    limit: float,
    again: bool,
    recipes: Sequence[str],
) -> Row:
    """A reproduction of recipes with `count` seeds each, on a simulated cluster."""
    with tempfile.TemporaryDirectory(prefix="sc") as folder, simulated.cluster(nodes, cpus=cpus, gpus=gpus) as row:
        import ray

        where, out = Where(), f"{folder}/runs"
        planned = lambda: {name: reproduce.plan(name, count, {}, out, where) for name in recipes}  # noqa: E731
        plans, row["plan_s"] = timed(planned)
        each = {name: reproduce.needs(name, where) for name in recipes}
        with serving_again() if again else contextlib.nullcontext():
            start, places = seeds_on_ray.on_cluster("auto", 1, build=lambda unit: ready(unit, hold), of=each)
        row |= {"units": sum(map(len, plans.values())), "places": places}
        sent: dict[Any, float] = {}
        until = time.monotonic() + limit

        def watched(unit: seeds.Unit, place: int) -> seeds.Process:
            sent[unit] = time.time()
            return Watched(start(unit, place), until)

        sampler, Watched.looks = Sampler(ray), 0
        with cost() as found, contextlib.redirect_stdout(io.StringIO()), screen(terminal=True):
            measured = reproduce.measure(
                plans, watched, min(jobs or places, places), lambda r: Path(folder) / "results"
            )
        sampler.over.set()
        sampler.join()
        done = [seed for plan in plans.values() for seed in plan if seed.run.result]
        assert measured is not None
        row["plan_again_s"] = timed(planned)[1]
        row |= {"finished": len(done), "claims": sum(r.holds for r in measured), "polls": Watched.looks}
        return row | found | dict(sampler.most) | placed(done, sent, each) | per_seed(found, len(done))


@contextlib.contextmanager
def serving_again() -> Iterator[None]:
    """Inside, tasks are made whose processes serve again: to start one for each seed is what costs most, and real nodes share that out."""
    from unittest import mock

    import ray

    ours = ray.remote

    def serving(**how: Any) -> Any:  # actors say nothing of calls
        return ours(**how | {"max_calls": 0} if "max_calls" in how else how)

    with mock.patch.object(ray, "remote", serving):
        yield


def timed(do: Callable[[], Any]) -> tuple[Any, float]:
    """The result of a function, and its seconds."""
    started = time.monotonic()
    return do(), time.monotonic() - started


def per_seed(found: Mapping[str, float], n: int) -> dict[str, float]:
    """Time for each seed."""
    return {"wall_s_per_seed": found["wall_s"] / n, "driver_cpu_ms_per_seed": 1000 * found["driver_cpu_s"] / n}


def placed(done: Sequence[Seed], sent: Mapping[Any, float], each: Mapping[str, seeds_on_ray.Needs]) -> dict[str, float]:
    """How seeds were spread over nodes, how long each waited for its process, and how often a GPU had two at a time (never, one hopes)."""
    said = {seed: json.loads((Path(seed.folder) / "place.json").read_text()) for seed in done}
    shares = Counter(p["node"] for p in said.values())
    waits = [p["started"] - sent[seed] for seed, p in said.items()]
    held = [(seed, p) for seed, p in said.items() if each[seed.recipe].gpus]
    last = max(p["started"] for p in said.values())
    return {
        "nodes_used": len(shares), "most_on_a_node": max(shares.values()), "fewest_on_a_node": min(shares.values()),
        "wait_s_median": statistics.median(waits), "wait_s_longest": max(waits), "all_begun_s": last - min(sent.values()),
        "with_gpu": len(held), "gpus_shared": clashes([p for _, p in held]),
        "gpus_held_without_need": sum(p["cards"] not in ("", "-1") for s, p in said.items() if not each[s.recipe].gpus),
    }  # fmt: skip


def clashes(places: Sequence[Mapping[str, Any]]) -> int:
    """How many runs began on a GPU before the one before them there had ended."""
    at: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for p in places:
        at.setdefault((p["node"], p["cards"]), []).append((p["started"], p["ended"]))
    return sum(b[0] < a[1] for spans in map(sorted, at.values()) for a, b in itertools.pairwise(spans))


def kept(path: Path) -> dict[str, Any]:
    """The parts of an earlier record: one may be measured again without the other."""
    return json.loads(path.read_text())["parts"] if path.is_file() else {}


def claiming() -> list[str]:
    """The recipes that make a claim."""
    return [name for name in names() if of_name(name).claim is not None]


def main() -> None:
    """Measure, and print or record the result."""
    parser = arguments(__doc__ or "", rounds=1)
    parser.add_argument("--nodes", type=int, nargs="*", default=[64], help="sizes of simulated clusters (default 64)")
    parser.add_argument("--cpus", type=int, default=96, help="made-up cores of a node (default %(default)s)")
    parser.add_argument("--gpus", type=int, default=8, help="made-up GPUs of a node (default %(default)s)")
    parser.add_argument("--seeds", type=int, default=10, help="of each recipe (default %(default)s)")
    parser.add_argument("--recipes", nargs="*", default=claiming(), help="by default all that make a claim")
    parser.add_argument("--hold", type=float, default=0.0, help="seconds that each seed keeps its place (default 0)")
    parser.add_argument("--jobs", type=int, help="seeds at a time, by default as many as there are places")
    parser.add_argument(
        "--limit", type=float, default=3600.0, help="seconds after which seeds are given up (default 3600)"
    )
    parser.add_argument(
        "--again", action="store_true", help="let Ray's processes serve several seeds, which ours never do"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="looks of a driver alone (default %(default)s)")
    args = parser.parse_args()
    count_opens()
    report = Report("scale", args.out)
    report.parts = kept(report.path)
    kinds = {f"{n} seeds, {'terminal' if t else 'file'}": (n, t) for n in DRIVEN for t in (True, False)}
    if args.seconds:
        report.part("driver", list(kinds), args.rounds, lambda name, _: driver(*kinds[name], args.seconds))
    sizes = {f"{n} nodes": n for n in args.nodes}

    def once(name: str, _: int) -> Row:
        given = (args.cpus, args.gpus, args.seeds, args.hold, args.jobs, args.limit, args.again, args.recipes)
        return reproduction(sizes[name], *given)

    if sizes:
        report.part("cluster", list(sizes), args.rounds, once, report.parts.get("cluster"))


if __name__ == "__main__":
    main()
