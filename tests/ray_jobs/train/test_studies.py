"""Studies: the same bits on any number of workers, stopped, killed or neither; what is wrong is said in one sentence."""

import functools
import json

import numpy as np
import pytest

from ray_jobs.distributed.crew import Here, OnRay
from ray_jobs.errors import Failed, UsageError
from ray_jobs.recipe.settings import build
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.report.html import html
from ray_jobs.report.report import of_run
from ray_jobs.reproduce import aggregate
from ray_jobs.reproduce.seeds import Seed
from ray_jobs.run.folder import Run
from ray_jobs.run.progress import silent
from ray_jobs.train import inspect
from ray_jobs.train.launch import Stopped, launch, resume, run_to_end
from ray_jobs.train.states import packed, unpacked
from ray_jobs.train.verbs import conclude
from ray_jobs.tune import search as searches
from tests.ray_jobs.command import OURS, equal, lines, newest, reprise, start, wait_for
from tests.ray_jobs.train.processes import imported

WALK = "tests.ray_jobs.train.processes:walk"
LAKE = {"steps": 40, "save_every": 7, "log_every": 3, "shards": 8}


def spec(out, recipe=WALK, workers=1, failures=3, **settings) -> Spec:
    where = Where(workers=workers, address="local", max_failures=failures)
    return Spec(recipe, settings, 3, where, str(out))


def same(a, b) -> bool:
    """Whether two runs have the same lines, state and result."""
    results = [{**json.loads((run.path / "result.json").read_text())["metrics"]} for run in (a, b)]
    return lines(a.path) == lines(b.path) and equal(newest(a.path), newest(b.path)) and results[0] == results[1]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    return {
        WALK: launch(spec(folder / "walk")),
        "dp_frozenlake": launch(spec(folder / "lake", "dp_frozenlake", **LAKE)),
    }


@pytest.mark.parametrize("workers", [2, 8])
@pytest.mark.parametrize("recipe", [WALK, "dp_frozenlake"])
def test_the_same_bits_on_any_number_of_workers(recipe, workers, plain, ray_cluster, tmp_path):
    settings = LAKE if recipe == "dp_frozenlake" else {}
    assert same(launch(spec(tmp_path / "run", recipe, workers, **settings)), plain[recipe])


@pytest.mark.parametrize("asked", [60, 111, 112, 115])
def test_a_study_that_stops_saves_and_resumes_to_the_same_bits(asked, plain, tmp_path):
    """Whether it is asked to stop between units or within one, between two shards."""
    wanted, calls = spec(tmp_path / "run"), []
    run = Run.create(wanted, kind="Study")
    with pytest.raises(Stopped):
        run_to_end(run, wanted, silent, lambda: calls.append(1) or len(calls) > asked)
    status = json.loads((run.path / "status.json").read_text())
    assert status["state"] == "stopped"
    state = newest(run.path)
    assert 0 < state["step"] == state["state"]["count"] < 40
    assert state["state"]["count"] == asked // 6, "the last whole unit, though no multiple of save_every"
    assert same(resume(str(run)), plain[WALK])


@pytest.mark.fault("process", "a study with --workers {workers} is killed, and resumed")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_study_resumes_to_the_same_bits(workers, plain, tmp_path, fault):
    killed = tmp_path / "killed"
    words = ["train", WALK, "--seed", 3, "--pause", 0.2, "--workers", workers, "--out", killed]
    with start(*words, env=OURS) as process:
        wait_for(lambda: len(lines(killed)) >= 5, process)
    at = lines(killed)[-1]["step"]
    assert at < 40
    said = reprise("resume", killed, env=OURS)
    fault.saw(said, "continuing from step 14")
    fault.lost(at - 14, 7)
    fault.equal(same(Run.open(killed), plain[WALK]))


def test_workers_of_dynamic_programming_import_no_torch(ray_cluster):
    process = build("dp_frozenlake", {}).process
    with OnRay(1, 0) as team:
        (found,) = team.map(functools.partial(imported, process), [0])
    assert found == []


def test_workers_that_die_too_often_end_the_study_with_one_sentence(ray_cluster, tmp_path):
    with pytest.raises(Failed, match=r"^Workers died 2 times, more often than --max_failures allows"):
        launch(spec(tmp_path / "run", workers=2, failures=1, fault="die"))
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"


def test_a_state_keeps_its_types_through_a_checkpoint(tmp_path):
    process = build(WALK, {}).process
    state = process.begin(0)
    process.advance(state, 0, 0, Here())
    run = Run.create(spec(tmp_path / "run"), kind="Study")
    run.save(1, packed(state, 1))
    again = unpacked(run.latest())
    assert list(again) == list(state) and equal({"x": packed(again, 1)}, {"x": packed(state, 1)})
    assert [(type(a), getattr(a, "dtype", None)) for a in again.values()] == [
        (type(a), getattr(a, "dtype", None)) for a in state.values()
    ]
    process.advance(again, 1, 0, Here())  # what was loaded can be written to
    run.release()


@pytest.mark.parametrize("value", [[1.0], np.float64(1), np.bool_(True), np.zeros((3, 4)).T, "text", None])
def test_a_state_of_anything_else_is_refused(value):
    with pytest.raises(TypeError, match=r"^the state's x is a .*: it must be a tensor, an array in C order or a plain"):
        packed({"x": value}, 1)


def test_a_study_that_has_converged_ends_and_says_so(tmp_path):
    run = launch(spec(tmp_path / "run", "dp_frozenlake", env="CliffWalking-v1", gamma=1.0, log_every=4))
    assert (run.path / "log.txt").read_text().count("converged after 15 of at most 20000 sweeps") == 1
    assert [line["step"] for line in lines(run.path)] == [4, 8, 12, 15]
    status = json.loads((run.path / "status.json").read_text())
    assert (status["state"], status["step"], status["steps"]) == ("finished", 15, 15)
    assert {"value.png", "convergence.png", "curve.png"} <= {p.name for p in run.path.iterdir()}
    short = launch(spec(tmp_path / "short", "dp_frozenlake", steps=5))
    assert "has not converged after 5 of at most 5 sweeps" in (short.path / "log.txt").read_text()


def test_evaluate_gives_the_result_again_and_sample_refuses(plain, capsys):
    run = plain["dp_frozenlake"]
    assert inspect.evaluate(str(run)) == run.result["metrics"]
    with pytest.raises(UsageError, match=r"is a study, which has nothing to sample: it drew .*value\.png") as error:
        inspect.sample(str(run))
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("recipe", "settings", "said"),
    [
        (WALK, {"scale": -1.0}, "--scale must be at least 0."),
        ("dp_frozenlake", {"gamma": 1.5}, "--gamma must be at least 0 and at most 1, not 1.5."),
        ("dp_frozenlake", {"shards": 0}, "--shards must be at least 1, not 0."),
        ("dp_frozenlake", {"env": "CartPole-v1"}, "The environment CartPole-v1 has no table of its transitions"),
        ("dp_frozenlake", {"env": "Lake-v0"}, "There is no environment Lake-v0 to solve"),
        ("dp_frozenlake", {"env_options": {"x": 1}}, "The environment FrozenLake8x8-v1 does not take the options"),
        ("dp_random_mdp", {"gamma": 1.0}, "Without a discount a policy has values only if"),
    ],
)
def test_what_a_process_refuses_is_said_in_one_sentence(recipe, settings, said, tmp_path):
    with pytest.raises(UsageError) as error:
        launch(spec(tmp_path / "run", recipe, **settings))
    assert str(error.value).startswith(said) and "\n" not in str(error.value)


def search(scheduler, recipe="dp_frozenlake", metric=None):
    return searches.make(
        recipe, space={}, settings={}, trials=3, scheduler=scheduler, search="random", metric=metric, mode=None, seed=0,
        where=Where(), start={},
    )  # fmt: skip


def test_a_search_of_a_study_compares_no_trials_before_their_end():
    found = search(None)
    assert (found.scheduler, found.metric, found.mode, found.progress) == ("none", "value_error", "min", "value_error")
    assert search("none", metric="episode_return").mode == "max"
    assert search(None, "ppo_cartpole").scheduler == "asha"
    for scheduler in ("asha", "pbt"):
        with pytest.raises(UsageError, match=rf"^--scheduler {scheduler} compares trials before their end, and dp_fro"):
            search(scheduler)


def test_reports_show_what_a_study_has_drawn(plain, tmp_path):
    run = plain["dp_frozenlake"]
    card = of_run(str(run))
    assert card.picture is None
    assert sorted(card.more) == ["convergence", "value"]
    assert html([card]).count("data:image/png") == 2
    result = aggregate.collect(None, [Seed("dp_frozenlake", 0, str(run))], {}, 1)
    aggregate.keep(result, [Seed("dp_frozenlake", 0, str(run))], tmp_path)
    names = {"dp_frozenlake.json", "dp_frozenlake-value.png", "dp_frozenlake-convergence.png"}
    assert {p.name for p in tmp_path.iterdir()} == names


def test_the_verdict_says_that_other_settings_were_given(plain, tmp_path, capsys):
    """A claim is about the recipe's own settings, for example its own environment."""
    conclude(plain["dp_frozenlake"])
    given = ", ".join(sorted(LAKE))
    assert capsys.readouterr().out.rstrip().endswith(f"with other settings than the claim's ({given})")
    conclude(launch(spec(tmp_path / "run", "policy_iteration_frozenlake")))
    assert capsys.readouterr().out.rstrip().endswith("reached by this seed")
