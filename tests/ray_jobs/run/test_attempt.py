"""What a launcher tells its jobs: a later attempt continues the first one's run, and tasks share the seeds."""

import json
import os
import sys

import pytest

from ray_jobs.errors import UsageError
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.reproduce import reproduce, seeds
from ray_jobs.run import job_context
from ray_jobs.run.folder import Run, folder_of
from ray_jobs.train.launch import Stopped, launch
from ray_jobs.tune.tune import tune
from tests.ray_jobs.command import equal, lines, newest
from tests.ray_jobs.lab import ROOT, Lab, write_recipe
from tests.ray_jobs.tune.test_tune import SPACE, formula

POINTS = {"steps": 40, "batch": 64, "width": 16, "levels": 25, "log_every": 5, "save_every": 20}


def points(out) -> Spec:
    return Spec("ddpm_mixture2d", POINTS, 1, Where(address="local"), str(out))


def stopping(step: int):
    """A report that stops the training at a step, as SIGTERM does."""

    def report(event: dict) -> None:
        if event.get("step", 0) >= step:
            os.kill(os.getpid(), 15)

    return report


def test_a_later_attempt_continues_the_run_of_the_first_to_the_same_bits(tmp_path, monkeypatch):
    whole = launch(points(tmp_path / "whole"))
    monkeypatch.setenv("REPRISE_JOB", "job-1")
    with pytest.raises(Stopped):
        launch(points(tmp_path / "run"), report=stopping(15))
    assert not (tmp_path / "run/result.json").exists()
    run = launch(points(tmp_path / "run"))
    assert lines(run.path) == lines(whole.path)
    assert equal(newest(run.path)["state_dict"], newest(whole.path)["state_dict"])
    again = launch(points(tmp_path / "run"))  # a node that is lost after the last step costs nothing
    assert again.result == run.result


@pytest.mark.parametrize("other", ["job-2", ""])
def test_another_job_does_not(tmp_path, monkeypatch, other):
    monkeypatch.setenv("REPRISE_JOB", "job-1")
    Run.create(points(tmp_path / "run"), kind="Fit").release()
    monkeypatch.setenv("REPRISE_JOB", other)
    with pytest.raises(UsageError, match="already holds a run"):
        launch(points(tmp_path / "run"))


def test_without_a_folder_every_attempt_of_a_job_has_the_same(monkeypatch):
    monkeypatch.setenv("REPRISE_JOB", "job-1")
    assert folder_of(Spec("ppo_cartpole", {}, 3)) == "runs/ppo_cartpole-seed3-job-1"


@pytest.mark.parametrize(("task", "tasks"), [("3", "3"), ("-1", "3"), ("0", ""), ("", "3"), ("x", "3")])
def test_what_is_no_share_is_refused(monkeypatch, task, tasks):
    monkeypatch.setenv("REPRISE_TASK", task)
    monkeypatch.setenv("REPRISE_TASKS", tasks)
    with pytest.raises(UsageError, match="is no share"):
        job_context.share()


def test_shares_are_all_of_the_work_once(monkeypatch):
    assert job_context.share() is None
    monkeypatch.setenv("REPRISE_TASK", "1")
    monkeypatch.setenv("REPRISE_TASKS", "3")
    assert job_context.share() == (1, 3)
    work = list(range(10))
    assert sorted(x for task in range(3) for x in job_context.own(work, (task, 3))) == work
    assert job_context.own(work, (1, 3)) == [1, 4, 7]


def test_tasks_run_their_seeds_and_the_last_job_gathers_them(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{tmp_path}")
    for name in [n for n in sys.modules if n.startswith("fakelab")]:
        monkeypatch.delitem(sys.modules, name)
    lab = Lab(tmp_path, {1: "fail"})
    recipe = write_recipe(tmp_path, "shared")
    start, _ = seeds.on_machine(1, 0, lab.build)
    monkeypatch.setattr(reproduce, "on_machine", lambda *_: (start, 2))
    monkeypatch.setenv("REPRISE_TASKS", "2")
    codes = []
    for task in "01":
        monkeypatch.setenv("REPRISE_TASK", task)
        codes.append(
            reproduce.reproduce([recipe], address="local", out=str(tmp_path / "out"), results=str(tmp_path / "r"))
        )
    assert codes == [0, 1]
    assert "seed 1 failed: " in capsys.readouterr().out
    assert not (tmp_path / "r").exists()
    monkeypatch.delenv("REPRISE_TASK")
    monkeypatch.delenv("REPRISE_TASKS")
    lab.modes.clear()
    assert reproduce.reproduce([recipe], address="local", out=str(tmp_path / "out"), results=str(tmp_path / "r")) == 0
    assert sorted(lab.started()) == [0, 1, 1, 2]
    (result,) = (tmp_path / "r").glob("*.json")
    assert json.loads(result.read_text())["seeds"] == [0, 1, 2]


def test_tasks_share_a_search_without_ray_and_the_last_job_concludes_it(tmp_path, monkeypatch, capsys):
    def once(folder: Spec, *more) -> None:
        trained.append(str(folder.out)[-4:])
        formula(folder, *more)

    trained: list[str] = []
    given = {"trials": 5, "scheduler": "none", "metric": "score", "mode": "max", "train": once, "quiet": True}
    order = Spec("ddpm_digits", out=str(tmp_path / "search"))
    monkeypatch.setitem(sys.modules, "ray", None)  # whoever imports it fails
    monkeypatch.setenv("REPRISE_TASKS", "2")
    for task in "10":
        monkeypatch.setenv("REPRISE_TASK", task)
        assert tune(order, space=SPACE, **given) == 0
    assert trained == ["0001", "0003", "0000", "0002", "0004"]
    assert "Trial 0004: finished" in capsys.readouterr().out
    monkeypatch.delenv("REPRISE_TASK")
    monkeypatch.delenv("REPRISE_TASKS")
    assert tune(order, space=SPACE, **given) == 0
    assert len(trained) == 5
    assert (tmp_path / "search/best.yaml").exists()


def test_a_task_that_is_stopped_continues_its_trial(tmp_path, monkeypatch):
    def once(spec: Spec, report, stop_requested) -> None:
        def stopping(event: dict) -> None:
            report(event)
            if event["step"] == 20:
                os.kill(os.getpid(), 15)

        formula(spec, stopping, stop_requested, pause=0.06)  # it is heard at the next report, within a second

    monkeypatch.setenv("REPRISE_TASK", "0")
    monkeypatch.setenv("REPRISE_TASKS", "2")
    given = {"trials": 3, "scheduler": "none", "metric": "score", "mode": "max", "quiet": True}
    order = Spec("ddpm_digits", out=str(tmp_path / "search"))
    assert tune(order, space=SPACE, **given, train=once) == 130
    first = Run(tmp_path / "search/trials/0000")
    assert 20 <= len(list(first.metrics())) < 50
    assert not (tmp_path / "search/trials/0002").exists()
    assert tune(order, space=SPACE, **given, train=formula) == 0
    assert [m["step"] for m in first.metrics()] == list(range(1, 51))
    assert (tmp_path / "search/trials/0002/result.json").exists()


@pytest.mark.parametrize("more", [{"scheduler": "asha"}, {"scheduler": "none", "search": "optuna"}])
def test_a_search_whose_trials_depend_on_each_other_is_not_shared(tmp_path, monkeypatch, more):
    monkeypatch.setenv("REPRISE_TASK", "0")
    monkeypatch.setenv("REPRISE_TASKS", "2")
    with pytest.raises(UsageError, match="--scheduler none"):
        tune(Spec("ddpm_digits", out=str(tmp_path / "search")), space=SPACE, metric="score", mode="max", **more)
    assert not (tmp_path / "search").exists()
