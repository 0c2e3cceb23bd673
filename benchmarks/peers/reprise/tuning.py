"""Many very short trials by `reprise tune`, or by a process `reprise train` for each: seconds, processes, memory and open files.

`train_s` is what a training takes by itself: the same settings, trained one after the other in processes that have done so
before, as many at a time. `slot_s` is the time that one of the places for trials was taken up by each, start and end of all
included, and `over_s` what of it was not training.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import product

MARK = f"reprise-tuning-{os.getpid()}"
ENV = os.environ | {"REPRISE_BENCH_MARK": MARK}
WORK = {
    "fit": ("maf_density2d", {"steps": 40, "batch": 64, "log_every": 4}, {"lr": "loguniform(1e-4,1e-2)"}),
    "play": (
        "ppo_cartpole",
        {"steps": 4096, "envs": 8, "log_every": 512, "eval_episodes": 4},
        {"lr": "loguniform(3e-3,3e-2)"},
    ),
}
WARM = 3
"""Trainings of a process that are not counted: they import and compile."""
MOMENTS = {"first": 0.05, "middle": 0.5, "last": 0.95}
"""Shares of the trials after whose ends processes are counted."""


def ours() -> list[Path]:
    """The processes that descend from this measurement, wherever they were adopted."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if MARK.encode() in (path / "environ").read_bytes():
                found.append(path)
        except OSError:  # it is gone, or not ours to read
            continue
    return found


def census(moment: str) -> dict[str, float]:
    """How many processes there are, their memory in MB, that of the largest, and their open files."""
    sizes, files = [], 0
    for path in ours():
        try:
            sizes.append(int((path / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6)
            files += len(list((path / "fd").iterdir()))
        except OSError:
            continue
    row = {"processes": len(sizes), "rss_mb": sum(sizes), "largest_mb": max(sizes, default=0.0), "files": files}
    return {f"{name}_{moment}": round(value, 1) for name, value in row.items()}


def words(settings: dict) -> list[str]:
    """Settings as words of the command line."""
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


def settings_of(kind: str, n: int) -> list[dict]:
    """What the trials of the search are trained with."""
    from ray_jobs.tune.space import parse_all, sample

    _, fixed, space = WORK[kind]
    dimensions = parse_all(space, {}, lambda values: None)
    return [fixed | sample(dimensions, 0, i) for i in range(n)]


def alone(kind: str, n: int, folder: Path) -> None:
    """Train in this process, one after the other, and print the seconds that each took when it was warm."""
    from ray_jobs.recipe.spec import Spec
    from ray_jobs.tune import trial

    for i, settings in enumerate(settings_of(kind, n + WARM)):
        if i == WARM:
            began = time.perf_counter()
        trial.train(Spec(WORK[kind][0], settings, 0, out=str(folder / str(i))), lambda event: None, lambda: False)
    print(json.dumps((time.perf_counter() - began) / n))


def training_itself(kind: str, at_once: int, n: int) -> float:
    """Seconds of the training alone, for one trial, with `at_once` at a time."""

    def one(i: int) -> float:
        command = [sys.executable, __file__, "alone", kind, "--trials", str(n), "--folder", f"alone-{i}"]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])

    with ThreadPoolExecutor(at_once) as pool:
        return sum(pool.map(one, range(at_once))) / at_once


def by_search(kind: str, n: int, at_once: int, scheduler: str) -> None:
    """Train the trials by `reprise tune`."""
    recipe, fixed, space = WORK[kind]
    ranges = [word for name, text in space.items() for word in (f"--space.{name}", text)]
    how = ["--trials", str(n), "--concurrent", str(at_once), "--scheduler", scheduler, "--out", "run", "--quiet"]
    command = [sys.executable, "-c", product.CONSOLE, "tune", recipe, *words(fixed), *ranges, *how]
    subprocess.run(command, check=True, env=ENV, stdout=sys.stderr)


def by_processes(kind: str, n: int, at_once: int) -> None:
    """Train each trial by `reprise train`."""

    def one(i: int, settings: dict) -> None:
        out = ["--out", f"run/trials/{i:04d}", "--quiet"]
        command = [sys.executable, "-c", product.CONSOLE, "train", WORK[kind][0], *words(settings), *out]
        subprocess.run(command, check=True, env=ENV, stdout=sys.stderr)

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(one, range(n), settings_of(kind, n)))


def watch(n: int, rows: dict, over: threading.Event) -> None:
    """Count processes whenever so many trials have ended."""
    moments = dict(MOMENTS)
    while moments and not over.wait(0.1):
        moment, share = next(iter(moments.items()))
        if len(list(Path("run/trials").glob("*/result.json"))) >= share * n:
            rows |= census(moment)
            del moments[moment]


def left() -> int:
    """Processes that are still there ten seconds after the end."""
    deadline = time.monotonic() + 10
    while ours() and time.monotonic() < deadline:
        time.sleep(0.1)
    return len(ours())


def main() -> None:
    """Measure, and print or record the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=["search", "processes", "alone"])
    parser.add_argument("kind", choices=list(WORK))
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--at_once", type=int, default=2)
    parser.add_argument("--alone", type=int, default=8)
    parser.add_argument("--scheduler", default="none")
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    if args.way == "alone":
        return alone(args.kind, args.trials, args.folder)
    train, rows, over = training_itself(args.kind, args.at_once, args.alone), {}, threading.Event()
    watcher = threading.Thread(target=watch, args=(args.trials, rows, over))
    watcher.start()
    began = time.perf_counter()
    if args.way == "search":
        by_search(args.kind, args.trials, args.at_once, args.scheduler)
    else:
        by_processes(args.kind, args.trials, args.at_once)
    slot = args.at_once * (time.perf_counter() - began) / args.trials
    over.set()
    watcher.join()
    finished = len(list(Path("run/trials").glob("*/result.json")))
    row = {"trials": args.trials, "finished": finished, "train_s": train, "slot_s": slot, "over_s": slot - train}
    print("\n" + json.dumps(row | rows | {"left_behind": left()}))


if __name__ == "__main__":
    main()
