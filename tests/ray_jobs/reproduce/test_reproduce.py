from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ray_jobs.errors import UsageError
from ray_jobs.recipe.declare import Claim
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.reproduce import aggregate, reproduce, seeds, seeds_on_ray
from ray_jobs.reproduce.board import glance
from ray_jobs.reproduce.seeds import Seed
from ray_jobs.results import store
from ray_jobs.results.statistics import summarize
from ray_jobs.results.store import Result
from ray_jobs.run.folder import Run
from tests.faults import Fault

sys.path.insert(0, str(Path(__file__).parents[1]))
from lab import ROOT, Lab, write_recipe

NOWHERE = Where()


@pytest.fixture
def aim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The import path of a recipe with a claim on three seeds."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{tmp_path}")
    for name in [n for n in sys.modules if n.startswith("fakelab")]:
        monkeypatch.delitem(sys.modules, name)
    return write_recipe(tmp_path, "aim")


def wait_for(what: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def measure(recipe: str, lab: Lab, jobs: int = 2, count: int | None = None) -> list[Result]:
    plans = {recipe: reproduce.plan(recipe, count, {}, str(lab.folder / "out"), NOWHERE)}
    start, _ = seeds.on_machine(1, 0, lab.build)
    return reproduce.measure(plans, start, jobs, target=lambda r: lab.folder / "results")


# ---- a whole reproduction


def test_seeds_are_run_measured_and_recorded(aim: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    lab = Lab(tmp_path, {1: "500.5"})
    (result,) = measure(aim, lab)
    assert (result.seeds, result.values) == ([0, 1, 2], [490.0, 500.5, 492.0])
    expected = summarize([490.0, 500.5, 492.0])
    assert (result.mean, result.iqm, result.interval) == (expected.mean, expected.iqm, expected.interval)
    assert result.verdict == "clearly holds"
    assert result.metrics == {"score": [490.0, 500.5, 492.0], "other": [1.0, 1.0, 1.0]}
    assert result.curves == {"score": {"steps": [1.0, 100.0], "values": [[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]}}
    kept = json.loads((tmp_path / "results" / f"{aim}.json").read_text())
    assert {k: kept[k] for k in ("recipe", "metric", "mean", "holds")} == {
        "recipe": aim, "metric": "score", "mean": expected.mean, "holds": True,
    }  # fmt: skip
    assert kept["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "clearly holds" in capsys.readouterr().out


def test_finished_seeds_are_not_run_again(aim: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    lab = Lab(tmp_path)
    first = measure(aim, lab, count=2)
    second = measure(aim, lab, count=3)
    assert sorted(lab.started()) == [0, 1, 2]
    assert second[0].values[:2] == first[0].values
    assert "2 of 3 seeds finished earlier" in capsys.readouterr().out


def test_seeds_from_100_on_are_recorded_next_to_the_first_ones(
    aim: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(tmp_path)
    first = measure(aim, lab)
    plan = reproduce.plan(aim, 2, {}, str(lab.folder / "out"), NOWHERE, 1, 100)
    start, _ = seeds.on_machine(1, 0, lab.build)
    kept = lambda r: aggregate.results_folder(r, str(tmp_path / "results"), "unused")  # noqa: E731
    (fresh,) = reproduce.measure({aim: plan}, start, 2, target=kept)
    assert fresh.seeds == [100, 101] and sorted(lab.started()) == [0, 1, 2, 100, 101]
    assert fresh.command == f"reprise reproduce {aim} --seeds 2 --first_seed 100"
    recorded = store.load(tmp_path / "results"), store.load(tmp_path / "results" / store.FRESH)
    assert [found[aim].values for found in recorded] == [first[0].values, fresh.values]


def test_a_negative_first_seed_is_refused(aim: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--first_seed must be at least 0, not -1"):
        reproduce.plan(aim, 2, {}, str(tmp_path), NOWHERE, 1, -1)


def test_a_failed_seed_is_told_and_does_not_stop_the_others(
    aim: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (result,) = measure(aim, Lab(tmp_path, {1: "fail"}), jobs=1)
    assert result.seeds == [0, 2]
    assert result.failures == {"1": "exit code 1 and no result.json\nreprise: the loss is not finite at step 50"}
    assert (result.verdict, result.holds) == ("not shown", False)
    assert "seed 1 failed: exit code 1" in capsys.readouterr().out


def test_a_metric_that_is_nan_or_missing_is_a_failure(aim: str, tmp_path: Path) -> None:
    (result,) = measure(aim, Lab(tmp_path, {0: "nan"}))
    assert result.failures == {"0": "score is nan"}
    assert result.metrics["score"] == [491.0, 492.0]
    other = write_recipe(tmp_path, "other", claim='Claim("height", at_most=1, seeds=1)')
    (result,) = measure(other, Lab(tmp_path))
    assert result.failures == {"0": "its result holds no height, only score, other"}
    assert result.mean is None


def test_reproduce_says_by_its_exit_code_whether_the_claim_holds(
    aim: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for number, (score, code) in enumerate([("480", 0), ("470", 1)]):
        lab = Lab(tmp_path, {0: score})
        monkeypatch.setattr(reproduce, "on_machine", lambda w, c, lab=lab: (seeds.on_machine(1, 0, lab.build)[0], 1))
        where = {"out": str(tmp_path / f"out{number}"), "results": str(tmp_path / "kept")}
        assert reproduce.reproduce([aim], seeds=1, **where) == code
    assert store.measured(aim, tmp_path / "kept") == "✗ 470, 1 seed"


# ---- being stopped

DRIVER = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from lab import Lab
from ray_jobs.reproduce import reproduce, seeds
from ray_jobs.recipe.spec import Where

lab = Lab(Path({folder!r}), {modes!r})
plans = {{{recipe!r}: reproduce.plan({recipe!r}, 2, {{}}, {folder!r} + "/out", Where())}}
done = reproduce.measure(plans, seeds.on_machine(1, 0, lab.build)[0], 2, target=lambda r: lab.folder / "results")
sys.exit(130 if done is None else int(not done[0].holds))
"""


def drive(recipe: str, lab: Lab) -> subprocess.Popen:
    path = [str(ROOT), str(lab.folder), str(Path(__file__).parents[1])]
    script = DRIVER.format(path=path, folder=str(lab.folder), modes=lab.modes, recipe=recipe)
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True)


def status(lab: Lab, recipe: str, seed: int) -> str:
    return (Run.at(lab.folder / "out" / recipe / f"seed-{seed}").read("status.json") or {}).get("state", "")


@pytest.mark.fault("process", "a reproduction gets {number.name}, and is started again")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_lets_the_seeds_save_and_the_same_command_continues(
    aim: str, tmp_path: Path, number: int, fault: Fault
) -> None:
    lab = Lab(tmp_path, {0: "495", 1: "hold"})
    driver = drive(aim, lab)
    wait_for(lambda: status(lab, aim, 0) == "finished" and status(lab, aim, 1) == "running")
    if number == signal.SIGINT:
        os.killpg(driver.pid, number)  # as a terminal does: to the whole group
    else:
        driver.send_signal(number)
    said, _ = driver.communicate(timeout=30)
    assert driver.returncode == 130
    fault.saw(said, "Stopped with 1 of 2 seeds finished")
    fault.saw(said, f"reprise reproduce {aim} --seeds 2 --out {tmp_path / 'out'}")
    assert (tmp_path / "out" / aim / "seed-1" / "saved").exists()
    assert not (tmp_path / "out" / aim / "seed-1" / "interrupted").exists()  # it was told once, by us

    lab.go()
    (result,) = measure(aim, lab, count=2)
    fault.equal(result.values == [495.0, 481.0], "the same values")
    fault.lost(lab.started().count(0) - 1, 0, "finished seeds")


@pytest.mark.fault("process", "a reproduction is killed, and started again while its seeds still run")
def test_a_killed_driver_leaves_seeds_that_the_next_one_waits_for(aim: str, tmp_path: Path, fault: Fault) -> None:
    lab = Lab(tmp_path, {0: "hold", 1: "hold"})
    driver = drive(aim, lab)
    wait_for(lambda: status(lab, aim, 0) == status(lab, aim, 1) == "running")
    driver.kill()
    driver.communicate(timeout=30)

    second = drive(aim, lab)
    said: list[str] = []
    wait_for(lambda: said.append(second.stdout.readline()) or "running" in said[-1])
    fault.saw(said, "running")
    lab.go()
    second.communicate(timeout=30)
    assert second.returncode == 0
    fault.lost(len(lab.started()) - len(set(lab.started())), 0, "seeds")
    kept = json.loads((tmp_path / "results" / f"{aim}.json").read_text())
    fault.equal(kept["values"] == [480.0, 481.0], "the same values")


# ---- what is refused, before anything starts


def test_what_cannot_be_is_refused_in_one_sentence(aim: str, tmp_path: Path) -> None:
    def ask(recipe: str = aim, **options: object) -> None:
        reproduce.reproduce([recipe], **({"out": str(tmp_path / "out"), "address": "local"} | options))

    with pytest.raises(UsageError, match="There is no recipe 'aime'"):
        ask("aime")
    with pytest.raises(UsageError, match="has no setting 'rate'"):
        ask(settings={"rate": 1})
    with pytest.raises(UsageError, match="--seeds must be at least 1, not 0"):
        ask(seeds=0)
    with pytest.raises(UsageError, match="--jobs must be at least 1, not 0"):
        ask(jobs=0)
    assert not (tmp_path / "out").exists()


def test_a_recipe_without_a_claim_gets_a_mean_and_an_interval(aim: str, tmp_path: Path) -> None:
    free = write_recipe(tmp_path, "free", claim="None")
    lab = Lab(tmp_path, {0: "490", 1: "495", 2: "500"})
    plans = {free: reproduce.plan(free, 3, {}, f"{tmp_path}/out", NOWHERE)}
    [found] = (
        reproduce.measure(plans, seeds.on_machine(1, 0, lab.build)[0], 2, target=lambda r: tmp_path / "kept") or []
    )
    assert found.verdict == "no claim" and found.metric == "score" and found.values == [490.0, 495.0, 500.0]
    assert found.mean == 495.0 and found.interval is not None and found.interval[0] < 495.0 < found.interval[1]


def test_runs_of_other_settings_are_not_taken_for_ours(aim: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    Run.create(Spec(aim, {"lr": 0.1}, 0, out=f"{out}/{aim}/seed-0"), kind="Play")
    with pytest.raises(UsageError, match=r"holds a run of other settings \(lr\)"):
        reproduce.plan(aim, 1, {}, out, NOWHERE)
    assert len(reproduce.plan(aim, 1, {"lr": 0.1, "steps": 100}, out, NOWHERE)) == 1  # 100 steps are the recipe's own


# ---- commands


def test_the_command_trains_a_new_seed_and_resumes_a_begun_one(tmp_path: Path) -> None:
    seed = Seed("aim", 3, str(tmp_path / "r"), {"lr": 0.001, "net": "a b"}, Where(runners=2))
    python = [sys.executable, "-P", "-m", "ray_jobs.cli"]
    train = ["train", "aim", "--seed", "3", "--out", seed.folder, "--runners", "2", "--lr=0.001", "--net=a b"]
    assert seeds.command(seed) == [*python, *train]
    Run.create(Spec("aim", {}, 3, out=seed.folder), kind="Play")
    assert seeds.command(seed) == [*python, "resume", seed.folder]


def test_the_recorded_command_brings_the_same_plan(aim: str, tmp_path: Path) -> None:
    from ray_jobs.command.requests import parse

    where = Where(runners=2, threads=3)
    plan = reproduce.plan(aim, 2, {"lr": 0.5}, str(tmp_path / "a b"), where)
    import shlex

    words = shlex.split(aggregate.retrace(plan))[1:]
    said = parse(words)
    assert said.words == [[aim]]
    assert said.options == {
        "seeds": 2, "out": str(tmp_path / "a b"), "runners": 2, "threads": 3, "settings": {"lr": 0.5},
    }  # fmt: skip


def test_a_machine_is_named_by_its_gpu_or_by_its_own_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregate, "processor", lambda: "Abacus")
    here = aggregate.socket.gethostname()
    assert aggregate.machine("cpu", 2, here) == "Abacus, 2 cores"
    assert aggregate.machine("cpu", 2, here + "x") == "CPU, 2 cores"
    assert aggregate.machine("NVIDIA H100", 16, here) == "NVIDIA H100, 16 cores"


def test_only_the_recipes_own_settings_and_all_seeds_make_its_record(tmp_path: Path) -> None:
    full = Result("aim", Claim("score", at_least=1, seeds=2), "c", seeds=[0], values=[1.0], failures={"1": "why"})
    out = str(tmp_path)
    assert aggregate.results_folder(full, None, out) == ROOT / "results"
    assert aggregate.results_folder(full, "elsewhere", out) == Path("elsewhere")
    few = Result("aim", full.claim, "c", seeds=[0], values=[1.0])
    other = Result("aim", full.claim, "c", seeds=[0, 1], values=[1.0, 1.0], settings={"lr": 1})
    assert (
        aggregate.results_folder(few, None, out) == aggregate.results_folder(other, None, out) == tmp_path / "results"
    )


# ---- several at a time


class Scripted:
    """A process that ends at its n-th look."""

    alive = 0
    most = 0

    def __init__(self, looks: int) -> None:
        self.looks = looks
        Scripted.alive += 1
        Scripted.most = max(Scripted.most, Scripted.alive)

    def poll(self) -> int | None:
        self.looks -= 1
        Scripted.alive -= self.looks == 0
        return 1 if self.looks <= 0 else None

    def tail(self) -> list[str]:
        return []


def test_no_more_than_jobs_run_at_once_and_each_has_a_place_of_its_own(tmp_path: Path) -> None:
    plan = [Seed("aim", i, str(tmp_path / str(i))) for i in range(7)]
    held: list[int] = []

    def start(seed: Seed, place: int) -> Scripted:
        held.append(place)
        return Scripted(1 + seed.number % 3)

    states: list[tuple[Seed, str]] = []
    why = seeds.execute(plan, start, 3, lambda s, state: states.append((s, state)), pause=0)
    assert (Scripted.most, set(held)) == (3, {0, 1, 2})
    assert list(why) == [s for s, state in states if state == "failed"]
    assert sorted(s.number for s in why) == list(range(7))


def test_each_place_gets_gpus_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [seeds.visible(list("0123"), 2, place) for place in (0, 1)] == [
        {"CUDA_VISIBLE_DEVICES": "0,1"}, {"CUDA_VISIBLE_DEVICES": "2,3"},
    ]  # fmt: skip
    assert seeds.visible(["0"], 1, 3) == {}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert seeds.on_machine(4, 1)[1] == 3
    assert seeds.on_machine(4, 0)[1] == 16


def test_a_child_does_not_inherit_the_ray_job_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_JOB_ID", "RAY_AUTH_MODE"):
        monkeypatch.setenv(name, "x")
    env = seeds.environment({"A": "b"})
    assert ("RAY_ADDRESS" in env, "RAY_JOB_ID" in env, env["RAY_AUTH_MODE"], env["A"]) == (False, False, "x", "b")


def test_one_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    process = seeds.LocalProcess([sys.executable, "-c", deaf], tmp_path / "log")
    wait_for(process.tail)
    seeds.stop([process], grace=0.1)
    wait_for(lambda: process.poll() == -signal.SIGKILL)


# ---- on a cluster


def test_seeds_run_as_ray_tasks_and_a_cancelled_one_saves(ray_cluster, aim: str, tmp_path: Path) -> None:
    lab = Lab(tmp_path, {0: "495", 1: "hold", 2: "fail"})
    start, places = seeds_on_ray.on_cluster("auto", 1, build=lab.build)
    assert places == 4
    plan = reproduce.plan(aim, 3, {}, str(tmp_path / "out"), NOWHERE)
    quick, held, bad = (start(seed, 0) for seed in plan)
    wait_for(lambda: None not in (quick.poll(), bad.poll()) and status(lab, aim, 1) == "running", 60)
    assert (quick.poll(), bad.poll()) == (0, 1)
    assert bad.tail() == ["reprise: the loss is not finite at step 50"]
    seeds.stop([held], grace=30)
    wait_for(lambda: (tmp_path / "out" / aim / "seed-1" / "saved").exists())
    with pytest.raises(UsageError, match="A run needs 64 CPUs"):
        seeds_on_ray.on_cluster("auto", 64)


def test_a_finished_row_shows_the_result_and_a_running_one_the_newest_line(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 7, "time": 1.0, "episode_return": -9.0}\n')
    assert glance(Run.at(tmp_path), "episode_return") == {"step": 7, "note": "episode_return -9"}
    (tmp_path / "result.json").write_text('{"metrics": {"episode_return": -4.0}, "step": 7}')
    assert glance(Run.at(tmp_path), "episode_return") == {"step": 7, "note": "episode_return -4"}


# ---- two reproductions in one folder


def test_a_second_reproduction_in_one_folder_is_refused(aim: str, tmp_path: Path) -> None:
    lab = Lab(tmp_path, {0: "hold", 1: "hold", 2: "hold"})
    first = drive(aim, lab)
    wait_for(lambda: status(lab, aim, 0) == "running")
    with pytest.raises(UsageError, match=r"Another process is at work in .*: wait for it, or choose another --out"):
        measure(aim, lab)
    lab.go()
    first.communicate(timeout=60)
    assert first.returncode == 0
    kept = json.loads((tmp_path / "results" / f"{aim}.json").read_text())
    assert kept["failures"] == {}


def test_no_failure_is_recorded_of_a_seed_that_another_process_trains(
    aim: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process takes the folder between the look at its lock and the start of the child: the child is refused."""
    lab = Lab(tmp_path, {1: "fail"})
    plan = reproduce.plan(aim, 1, {}, str(tmp_path / "out"), NOWHERE)
    other = subprocess.Popen(Lab(tmp_path, {0: "hold"}).build(plan[0]))
    wait_for(lambda: plan[0].run.place.held())

    class Refused:
        def poll(self) -> int:
            return 2

        def tail(self) -> list[str]:
            return ["reprise: Another process is at work in here: wait for it, or choose another --out."]

    told: list[str] = []

    def tell(seed: Seed, state: str) -> None:
        told.append(state)
        lab.go()

    look, early = seeds.held, iter([False])  # the first look is too early
    monkeypatch.setattr(seeds, "held", lambda seed: next(early, None) is None and look(seed))
    assert seeds.execute([plan[0]], lambda unit, slot: Refused(), 1, tell) == {}
    other.wait(timeout=30)
    assert told[-1] == "finished" and "failed" not in told


def test_a_seed_that_another_process_keeps_is_told_and_nothing_is_recorded(aim: str, tmp_path: Path) -> None:
    plan = reproduce.plan(aim, 1, {}, str(tmp_path / "out"), NOWHERE)

    class Superseded:
        def poll(self) -> int:
            return 2

        def tail(self) -> list[str]:
            return ["reprise: Another process has continued s3://x (process 1 on there): this one stops writing there."]

    with pytest.raises(UsageError, match=r"Another process trains .* seed 0: nothing was recorded"):
        seeds.execute([plan[0]], lambda unit, slot: Superseded(), 1, lambda seed, state: None)
