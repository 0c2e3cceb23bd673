"""A great many seeds: what a look costs, what is looked at, what each holds of a node, and who is started again."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest

from ray_jobs.errors import UsageError
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.reproduce import board, seeds, seeds_on_ray
from ray_jobs.reproduce.reproduce import needs
from ray_jobs.reproduce.seeds import Seed
from ray_jobs.reproduce.seeds_on_ray import Needs, RayProcess, room
from ray_jobs.run.folder import Run
from tests.cluster.waiting import until

sys.path.insert(0, str(Path(__file__).parents[1]))
from lab import ROOT, Lab, write_recipe


def plan(n: int, folder: Path, recipe: str = "ppo_cartpole") -> list[Seed]:
    return [Seed(recipe, i, str(folder / str(i))) for i in range(n)]


class Works:
    """A process that is at work for three looks."""

    polls = 0

    def __init__(self) -> None:
        self.left = 3

    def poll(self) -> int | None:
        Works.polls += 1
        self.left -= 1
        return None if self.left else 0

    def tail(self) -> list[str]:
        return []


def test_thousands_of_seeds_cost_each_as_much_as_one(tmp_path, monkeypatch):
    """Calls are counted, not seconds: a look is one call, and a folder is asked about when its seed begins and when it ends."""
    asked: Counter[str] = Counter()
    monkeypatch.setattr(seeds, "held", lambda seed: asked.update(["held"]))
    monkeypatch.setattr(seeds, "fetch", lambda seed: asked.update(["fetch"]) or SimpleNamespace(result={}))
    Works.polls, states = 0, Counter()
    why = seeds.execute(
        plan(2000, tmp_path), lambda unit, place: Works(), 512, lambda s, state: states.update([state]), 0
    )
    assert (Works.polls, why) == (3 * 2000, {})
    assert states == {"running": 2 * 2000, "finished": 2000}
    assert asked == {"held": 2 * 2000, "fetch": 2000}


# ---- the board


@pytest.fixture()
def looked(monkeypatch):
    """How often each folder was looked into."""
    found: Counter[str] = Counter()
    monkeypatch.setattr(board, "glance", lambda run, wanted: found.update([run.path.name]) or {"note": "x 1"})
    monkeypatch.setattr(board, "LOOK", 0.0)
    return found


def terminal(height: int = 24):
    from rich.console import Console

    return Console(file=io.StringIO(), force_terminal=True, width=100, height=height, highlight=False)


def test_a_board_of_many_seeds_looks_only_at_those_that_it_shows(looked, tmp_path):
    many, console = plan(2000, tmp_path), terminal()
    with board._live(many, {"ppo_cartpole": "episode_return"}, console) as tell:
        for _ in range(5):
            for seed in many:
                tell(seed, "running")
        assert looked == {str(i): 5 for i in range(24 - board.MARGIN)}
        tell(many[0], "finished")
        tell(many[1], "failed")
        for seed in many[2:]:
            tell(seed, "running")
    assert {"20", "21"} <= set(looked), "whoever is at work takes the place of who has ended"
    assert "22" not in looked
    drawn = console.file.getvalue()
    assert "2000 seeds" in drawn and "2/2000" in drawn
    assert "failed" in drawn


def test_a_board_of_few_seeds_has_a_row_for_each_from_the_beginning(looked, tmp_path):
    few, console = plan(3, tmp_path), terminal()
    with board._live(few, {"ppo_cartpole": "episode_return"}, console) as tell:
        tell(few[0], "running")
        tell(few[0], "finished")
    assert looked == {"0": 2}
    assert all(f"ppo_cartpole seed {i}" in console.file.getvalue() for i in range(3))


# ---- what a run holds


def test_agents_hold_no_gpu_unless_they_are_told_to():
    assert needs("ppo_cartpole", Where()) == Needs(1)
    assert needs("ddpm_digits", Where()) == Needs(1, 1)
    assert needs("ddpm_digits", Where(workers=4, threads=2)) == Needs(8, 4)
    assert needs("ddpm_digits", Where(accelerator="cpu")) == Needs(1)
    assert needs("ppo_cartpole", Where(runners=4, learners=2, threads=3, accelerator="gpu")) == Needs(10, 2)


def test_a_node_is_filled_with_who_needs_gpus_and_then_with_the_others():
    node = {"CPU": 96.0, "GPU": 8.0, "memory": 1e9}
    assert room(node, [Needs(1, 1)]) == 8
    assert room(node, [Needs(1)]) == 96
    assert room(node, [Needs(1), Needs(2, 2)]) == 4 + 88
    assert room(node, [Needs(3), Needs(1)]) == 32
    assert room({"CPU": 2.0}, [Needs(1, 1)]) == 0


class Cluster:
    """As much of Ray as `on_cluster` asks for."""

    def __init__(self, *nodes: dict[str, float]) -> None:
        self.held, self._nodes = [], [{"Alive": True, "Resources": n} for n in nodes]

    def nodes(self):
        return self._nodes

    def remote(self, **how):
        return lambda f: self

    def options(self, **what):
        self.held.append(what)
        return SimpleNamespace(remote=lambda *_: SimpleNamespace(future=Future))


def test_each_task_asks_for_what_its_recipe_needs(monkeypatch, tmp_path):
    cluster = Cluster({"CPU": 16.0, "GPU": 2.0}, {"CPU": 4.0}, {"memory": 1.0})
    monkeypatch.setattr("ray_jobs.distributed.connection.connect", lambda address: cluster)
    monkeypatch.setattr(
        "ray_jobs.distributed.mailbox.NodeTracker", lambda ray: SimpleNamespace(mail=None, lost=lambda name: False)
    )
    of = {"ddpm_digits": Needs(1, 1), "ppo_cartpole": Needs(2)}
    start, places = seeds_on_ray.on_cluster("auto", 2, 1, of=of)
    assert places == 2 + 7 + 2
    for name in of:
        start(Seed(name, 0, str(tmp_path / name)), 0)
    assert cluster.held == [{"num_cpus": 1, "num_gpus": 1}, {"num_cpus": 2, "num_gpus": 0}]
    with pytest.raises(UsageError, match="A run needs 1 CPUs and 4 GPUs on one node"):
        seeds_on_ray.on_cluster("auto", 1, of={"ddpm_digits": Needs(1, 4), "ppo_cartpole": Needs(1)})
    monkeypatch.setattr("ray_jobs.distributed.connection.connect", lambda address: Cluster({"CPU": 4.0}))
    assert seeds_on_ray.on_cluster("auto", 2, 1, of=of)[1] == 2, "where there are no GPUs nobody waits for one"


# ---- tasks


def test_to_look_at_a_task_asks_ray_nothing(monkeypatch):
    ray = pytest.importorskip("ray")
    for name in ("wait", "get"):
        monkeypatch.setattr(ray, name, lambda *_, **__: pytest.fail("a call for each look"))
    answer = Future()
    process = RayProcess(lambda name: SimpleNamespace(future=lambda: answer), Seed("aim", 0, "nowhere"))
    assert process.poll() is None
    answer.set_result((3, ["out of luck"]))
    assert (process.poll(), process.tail()) == (3, ["out of luck"])


@pytest.fixture()
def lab(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{tmp_path}")
    return Lab(tmp_path, {0: "hold"})


def kill_worker(folder: str) -> None:
    """End the Ray worker that started the process at work in a run folder."""
    at_work = until(lambda: (Run.at(folder).read("status.json") or {}).get("pid"), 60)
    parent = int(Path(f"/proc/{at_work}/stat").read_text().rpartition(")")[2].split()[1])
    assert parent != os.getpid()
    os.kill(parent, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="the parent's death is told by Linux alone")
@pytest.mark.parametrize("restarts", [1, 0])
def test_a_seed_whose_worker_dies_saves_and_is_started_again(ray_cluster, lab, restarts, capsys):
    recipe = write_recipe(lab.folder, "aim")
    seed = Seed(recipe, 0, str(lab.folder / "out" / recipe / "seed-0"))
    start, _ = seeds_on_ray.on_cluster("auto", 1, build=lab.build, restarts=restarts)
    process = start(seed, 0)
    kill_worker(seed.folder)
    until(lambda: (Path(seed.folder) / "saved").exists())  # nobody is left behind on the node
    lab.go()
    code = until(lambda: [c for c in [process.poll()] if c is not None], 60)[0]
    if restarts:
        assert (code, lab.started()) == (0, [0, 0])
        assert f"{seed}: its process ended; it is started again.\n" in capsys.readouterr().out
    else:
        assert (code, lab.started()) == (1, [0])
        assert process.tail()[0].startswith("its Ray task died: ")


def test_a_task_that_is_stopped_is_not_started_again():
    ray = pytest.importorskip("ray")
    started, answer = [], Future()
    reference = SimpleNamespace(future=lambda: answer)
    process = RayProcess(lambda name: started.append(1) or reference, Seed("aim", 0, "nowhere"), restarts=3)
    cancelled = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "cancel", lambda ref, force: cancelled.append(force))
        process.terminate()
        process.kill()
    answer.set_exception(ray.exceptions.WorkerCrashedError())
    assert process.poll() == 1
    assert (started, cancelled) == ([1], [False, True])


# ---- storage


def test_the_driver_fetches_no_checkpoints(tmp_path, monkeypatch):
    uri = f"file://{tmp_path}/far/seed-0"
    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path / "there"))
    run = Run.create(Spec("ddpm_digits", out=uri), kind="Fit")
    run.save(1, {"x": 1})
    run.finish({"m": 1.0}, step=1, device="cpu")
    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path / "driver"))
    seed = Seed("ddpm_digits", 0, uri)
    assert seeds.fetch(seed).result["metrics"] == {"m": 1.0}
    assert seed.run.checkpoints() == []
    assert len(Run.open(uri).checkpoints()) == 1


@pytest.mark.parametrize(("write", "saved"), [(0.5, [2, 4, 6, 8, 9]), (6.0, [2, 9])])
def test_checkpoints_that_take_long_are_written_seldom(write, saved, tmp_path, monkeypatch):
    """A step is 10 s of a clock that only the test moves: 6 s of writing forbid another for 120 s, and the last is written in any case."""
    from ray_jobs.recipe.plan import Fit
    from ray_jobs.train import recorder

    clock, written = [100.0], []
    monkeypatch.setattr(recorder.time, "monotonic", lambda: clock[0])

    def save(path):
        clock[0] += write
        written.append(trainer.global_step)

    run = SimpleNamespace(log=lambda *_: None, status=lambda *_, **__: None)
    trainer = SimpleNamespace(
        global_step=0, world_size=1, is_global_zero=True, callback_metrics={}, should_stop=False, save_checkpoint=save
    )
    recorder = recorder.RunRecorder(run, Fit(None, None, steps=9, save_every=2), lambda event: None, lambda: False)
    recorder.began, recorder.began_at = clock[0], 0
    for trainer.global_step in range(1, 10):
        clock[0] += 10.0
        recorder.on_train_batch_end(trainer, None)
    assert written == saved


# ---- all of it


@pytest.mark.slow
def test_all_recipes_and_ten_seeds_on_sixty_four_simulated_nodes(tmp_path):
    """Minutes: every seed is a process of Ray's and one of its own."""
    pytest.importorskip("ray")
    command = [
        sys.executable,
        "-m",
        "benchmarks.scale",
        "--nodes",
        "64",
        "--seconds",
        "0",
        "--out",
        str(tmp_path / "r.json"),
    ]
    subprocess.run(command, cwd=ROOT, check=True, timeout=3000, env=os.environ | {"PYTHONPATH": str(ROOT)})
    (row,) = json.loads((tmp_path / "r.json").read_text())["parts"]["cluster"]["64 nodes"]
    assert row["finished"] == row["units"] >= 1000
    assert (row["raylets"], row["nodes_used"]) == (65, 64)
    assert (row["gpus_shared"], row["gpus_held_without_need"]) == (0, 0)
