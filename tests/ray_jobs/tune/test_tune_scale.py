"""Searches of many trials, of trials that are groups, and ones whose driver is killed: what stays, what grows, what is left behind."""

import json
import os
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest
from rich.console import Console

from ray_jobs.distributed import placement
from ray_jobs.distributed.placement import trial_placement
from ray_jobs.errors import UsageError
from ray_jobs.recipe.plan import Layout
from ray_jobs.recipe.settings import build
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.run.files import write_json
from ray_jobs.run.folder import Run
from ray_jobs.tune import search, search_report, trial, trials
from ray_jobs.tune.leaderboard import SHOWN, Leaderboard
from ray_jobs.tune.trials import Trial, folder
from ray_jobs.tune.tune import tune

MODEL = {"steps": 20, "batch": 32, "width": 16, "log_every": 2}
SPACE = {"lr": "loguniform(1e-4,1e-2)"}
GROWTH = 8e6
"""Bytes by which a trial may make the process that it used larger, on average, once that is warm: 13e6 if nothing is tidied up, and
-2e6 to 5e6 as it is, for memory comes back late; in a Ray of the search's own, which has one arena (MALLOC_ARENA_MAX), about none."""


def by_value():
    """Let Ray's processes, which cannot import this file, have its functions."""
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def until(true, limit=90.0):
    deadline = time.monotonic() + limit
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# ---- what is shown of hundreds


def hundreds(n=300):
    """Trials of a large search: of ten in a row one trains, one failed, four were stopped and four finished."""
    kinds = ["running", "failed", *["stopped"] * 4, *["finished"] * 4]
    return [
        Trial(i, {"lr": 1e-3 + i * 1e-6}, kinds[i % 10], ((12.0, 1.0),), score=i / n if i % 10 > 5 else None)
        for i in range(n)
    ]


def board_of(found, out):
    wanted = search.make(
        "maf_density2d", space=SPACE, settings={}, trials=len(found), scheduler="asha", search="random",
        metric=None, mode=None, seed=0, where=Where(), start={},
    )  # fmt: skip
    board = Leaderboard(wanted, out)
    for t in found:
        board.hear(t)
    return board


def test_a_board_of_hundreds_fits_a_terminal_and_shows_who_trains(tmp_path):
    console = Console(width=80, force_terminal=False, record=True, file=open(os.devnull, "w"))
    console.print(board_of(hundreds(), tmp_path))
    lines = console.export_text().splitlines()
    assert len(lines) <= SHOWN + 4
    assert sum("running" in line for line in lines) == SHOWN // 2
    assert "270/300 trials (120 stopped early, 30 failed)" in " ".join(lines)
    assert "0006" in lines[1 + SHOWN // 2]  # the best of the others: excess_nats is to be small


def test_the_last_table_shows_the_best_and_says_where_all_are(tmp_path, capsys):
    found = hundreds()
    assert search_report.conclude(board_of(found, tmp_path), tmp_path, interrupted=False, quiet=False) == 0
    said = capsys.readouterr().out
    assert sum(line.strip().startswith("0") for line in said.splitlines()) == search_report.SHOWN
    assert "and 280 more" in said
    assert "300 trials: 120 finished, 120 stopped early, 30 failed, 30 unfinished." in said
    assert (tmp_path / "trials.csv").read_text().count("\n") == 301


# ---- where trials are placed

FOUR, TWO = {"CPU": 4.0, "memory": 1e9}, {"CPU": 2.0, "memory": 1e9}
GPUS = {"CPU": 8.0, "GPU": 2.0, "memory": 1e9}


def layout(where: Where, fit: bool) -> Layout:
    """The processes of a generative model's trial, or of an agent's."""
    return build("ddpm_mixture2d" if fit else "ppo_cartpole", {}).layout(where)


@pytest.mark.parametrize(("where", "fit", "nodes", "address", "bundles"), [
    (Where(), True, [TWO], "local", [{"CPU": 1.0}]),
    (Where(workers=2, threads=2), True, [TWO, FOUR], "local", [{"CPU": 4.0}]),
    (Where(workers=4, address="x:1"), True, [TWO, TWO], "auto", [placement.DRIVER]),
    (Where(workers=2), True, [GPUS], "local", [{"CPU": 2.0, "GPU": 2.0}]),
    (Where(workers=2, accelerator="cpu"), True, [GPUS], "local", [{"CPU": 2.0}]),
    (Where(runners=3, address="x:1"), False, [TWO, TWO], "x:1", [{"CPU": 1.0}] * 4),
    (Where(learners=2, runners=2), False, [FOUR], None, [placement.DRIVER]),
])  # fmt: skip
def test_a_trial_is_placed_by_what_it_is_made_of(where, fit, nodes, address, bundles):
    there, held = trial_placement(where, layout(where, fit), nodes)
    assert (there.address, list(held)) == (address, bundles)


def test_what_no_node_has_room_for_is_refused():
    with pytest.raises(UsageError, match="needs 3 CPUs on one node"):
        trial_placement(Where(threads=3), layout(Where(threads=3), True), [TWO, TWO])
    with pytest.raises(UsageError, match="needs 6 CPUs, and all nodes of the cluster have 4"):
        trial_placement(Where(learners=2, runners=4), layout(Where(learners=2, runners=4), False), [TWO, TWO])


def in_its_place(given, report, stop_requested):
    """A training that notes, while it trains, what the cluster has left and what is held for it."""
    import ray
    from ray.util import get_current_placement_group

    seen = {"free": 99.0, "bundles": get_current_placement_group().bundle_specs}

    def heard(event):
        seen["free"] = min(seen["free"], ray.available_resources().get("CPU", 0.0))
        report(event)

    trial.train(given, heard, stop_requested)
    write_json(Path(given.out) / "seen.json", seen)


AGENT = {"steps": 1152, "envs": 12, "log_every": 128, "eval_episodes": 2}


@pytest.mark.parametrize(("recipe", "settings", "where", "bundles", "free"), [
    ("maf_density2d", MODEL, Where(workers=2, threads=2), [{"CPU": 4}], 0),
    ("ppo_cartpole", AGENT, Where(runners=3), [{"CPU": 1}] * 4, 0),
    pytest.param(
        "ppo_cartpole", AGENT, Where(learners=2, runners=2), [placement.DRIVER], 0, marks=pytest.mark.slow
    ),
])  # fmt: skip
def test_a_trial_of_several_processes_fits_a_cluster_that_is_just_large_enough(
    recipe, settings, where, bundles, free, ray_cluster, tmp_path
):
    """Four cores, and four are needed: whatever was held twice would wait for ever."""
    by_value()
    given = Spec(recipe, settings, where=where, out=str(tmp_path))
    assert (
        tune(given, space={"lr": "choice(1e-3,2e-3)"}, trials=1, scheduler="none", quiet=True, train=in_its_place) == 0
    )
    seen = json.loads((folder(tmp_path, 0) / "seen.json").read_text())
    assert (seen["bundles"], seen["free"]) == (bundles, free)


# ---- many trials, few processes


def noted(given, report, stop_requested):
    """A training after which its process notes what it holds."""
    trial.train(given, report, stop_requested)
    held = {
        "pid": os.getpid(),
        "bytes": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
        "files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "time": time.time(),
    }
    write_json(Path(given.out) / "held.json", held)


def slope(values):
    """Least squares, per step."""
    n = len(values)
    middle, mean = (n - 1) / 2, sum(values) / n
    return sum((i - middle) * (v - mean) for i, v in enumerate(values)) / sum((i - middle) ** 2 for i in range(n))


@pytest.mark.parametrize("n", [18, pytest.param(300, marks=pytest.mark.slow)])
def test_trials_share_few_processes_that_do_not_grow(n, ray_cluster, tmp_path):
    by_value()
    given = Spec("maf_density2d", MODEL, out=str(tmp_path))
    assert tune(given, space=SPACE, trials=n, scheduler="none", concurrent=2, quiet=True, train=noted) == 0
    held = [json.loads((folder(tmp_path, i) / "held.json").read_text()) for i in range(n)]
    by_pid = {h["pid"]: [] for h in held}
    for h in sorted(held, key=lambda h: h["time"]):
        by_pid[h["pid"]].append(h)
    assert len(by_pid) <= 2 + n // 20  # now and then Ray Tune lets a process go and starts another
    warm = [m[3:] for m in by_pid.values() if len(m) >= 8]  # the first ones import and fill caches
    assert sum(slope([h["bytes"] for h in mine]) for mine in warm) / len(warm) < GROWTH
    for mine in warm:  # Ray opens and closes several now and then; what each trial leaves behind is one more each time
        for kind in ("files", "threads"):
            counts = [h[kind] for h in mine]
            assert median(after - before for before, after in pairwise(counts)) < 1, (kind, counts)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in by_pid))


# ---- a population that is larger than the cluster


def in_turns(given, report, stop_requested):
    """A training that notes when it was at work."""
    began = time.time()
    try:
        trial.train(given, report, stop_requested)
    finally:
        with open(Path(given.out) / "sittings", "a") as file:
            file.write(f"{began} {time.time()}\n")


def test_a_population_larger_than_the_cluster_lives_at_the_same_time_in_turns(ray_cluster, tmp_path):
    by_value()
    given = Spec("maf_density2d", MODEL | {"save_every": 10, "log_every": 1}, out=str(tmp_path))
    options = {"scheduler": "pbt", "concurrent": 1, "quiet": True, "train": in_turns}
    assert tune(given, space=SPACE, trials=3, **options) == 0
    runs = [folder(tmp_path, i) for i in range(3)]
    assert all(Run(at).result for at in runs)
    texts = [(at / "sittings").read_text().splitlines() for at in runs]
    sittings = [[tuple(map(float, line.split())) for line in text] for text in texts]
    assert max(s[0][0] for s in sittings) < min(s[-1][1] for s in sittings)  # all began before one ended
    edges = sorted(e for one in sittings for a, b in one for e in ((a, 1), (b, -1)))
    assert max(sum(way for _, way in edges[: i + 1]) for i in range(len(edges))) <= 1


# ---- a driver that is killed


def slowly(given, report, stop_requested):
    def heard(event):
        time.sleep(0.03)
        report(event)

    trial.train(given, heard, stop_requested)


def of_a_search(mark):
    """The processes that a search started, by a variable that it was given."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (path / "environ").read_bytes():
                found.append(path)
        except OSError:
            continue
    return found


TRIALS, FIRST = {"asha": 10, "optuna": 10, "pbt": 6}, {"asha": 3, "optuna": 3, "pbt": 1}
"""How many there are, and how many have ended when the driver is killed; a population's end nearly at the same time."""
OPTIONS = {
    "asha": {"scheduler": "asha"},
    "optuna": {"scheduler": "none", "search": "optuna"},
    "pbt": {"scheduler": "pbt"},
}


@pytest.mark.fault("process", "a search is killed with its processes, and started again ({how})")
@pytest.mark.parametrize("how", ["asha", *(pytest.param(how, marks=pytest.mark.slow) for how in ("optuna", "pbt"))])
def test_a_search_killed_with_its_driver_continues_and_repeats_nothing(how, ray_cluster, tmp_path, capsys, fault):
    mark = f"search-of-{os.getpid()}-{how}"
    env = os.environ | {"REPRISE_TEST_MARK": mark, "RAY_ADDRESS": ""}
    child = subprocess.Popen(
        [sys.executable, __file__, str(tmp_path), how], stdout=subprocess.DEVNULL, env=env, start_new_session=True
    )
    try:
        ended = lambda: len(list(tmp_path.glob("trials/*/result.json")))  # noqa: E731
        until(lambda: ended() >= FIRST[how] or child.poll() is not None, 300)
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()
    until(lambda: not of_a_search(mark))
    done = [t for t in trials.load_all(tmp_path) if t.done]
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("trials/*/result.json")}
    assert FIRST[how] <= len(before) < TRIALS[how]
    by_value()
    given = Spec("maf_density2d", MODEL, out=str(tmp_path))
    assert tune(given, space=SPACE, trials=TRIALS[how], concurrent=2, train=trial.train, **OPTIONS[how]) == 0
    fault.saw(capsys.readouterr().out, rf"^{TRIALS[how]} trials: \d+ finished")
    fault.lost(sum(p.stat().st_mtime_ns != at for p, at in before.items()), 0, "finished trials")
    found = trials.load_all(tmp_path)
    assert [t.number for t in found] == list(range(TRIALS[how]))
    assert all(t.done and t.state != "failed" for t in found)
    assert [found[t.number] for t in done] == done
    whole = list(range(2, MODEL["steps"] + 1, 2))
    for t in (t for t in found if t.state == "finished"):
        logged = [m["step"] for m in Run(folder(tmp_path, t.number)).metrics()]
        # who takes over the weights of one that is ahead has a gap
        mine = [step for step in whole if step in logged] if t.history else whole
        assert logged == mine and logged[-1] == MODEL["steps"]
    fault.equal(True, "every trial whole, each step once")


if __name__ == "__main__":
    tune(
        Spec("maf_density2d", MODEL, out=sys.argv[1]), space=SPACE, trials=TRIALS[sys.argv[2]], concurrent=2, quiet=True,
        train=slowly, **OPTIONS[sys.argv[2]],
    )  # fmt: skip
