"""Damaged checkpoints of each kind of run: the one before is used and one sentence says so, whatever the command."""

import json
import random
import shutil

import pytest
import torch

from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.run import checkpoint
from ray_jobs.run.folder import Run
from ray_jobs.train.launch import launch
from tests.ray_jobs.command import alike, here
from tests.ray_jobs.envs.payloads import payloads

RUNS = {
    "model": ("nice_density2d", {"steps": 6, "batch": 16, "save_every": 2, "log_every": 1, "ema": 0.9}),
    "agent": ("a2c_cartpole", {"steps": 800, "envs": 2, "save_every": 200, "log_every": 200, "eval_episodes": 1}),
    "study": ("tests.ray_jobs.train.processes:walk", {}),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A finished run of each kind, and the same stopped before its last checkpoint's result."""
    at = tmp_path_factory.mktemp("plain")
    return {
        kind: launch(Spec(name, settings, 0, Where(address="local"), str(at / kind)))
        for kind, (name, settings) in RUNS.items()
    }


def cut(run, out):
    """A copy of a run without its result, whose newest checkpoint is to be damaged."""
    shutil.copytree(run.path, out)
    (out / "result.json").unlink()
    return Run.at(out)


def flip(path, seed=0):
    data = bytearray(path.read_bytes())
    bit = random.Random(seed).randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bytes(data))


@pytest.mark.fault("storage", "a bit of the newest checkpoint of a run that was killed is flipped ({kind})")
@pytest.mark.parametrize("kind", RUNS)
def test_a_damaged_run_resumes_from_the_one_before_to_the_same_bits(kind, plain, tmp_path, fault):
    run = cut(plain[kind], tmp_path / "run")
    newest, older = run.checkpoints()
    flip(newest)
    said = here("resume", run.path) + (run.path / "log.txt").read_text()
    assert said.count(newest.name) == 1 and f"is used: {older.name}" in said and "Traceback" not in said
    fault.saw([line.partition(" ")[2] for line in said.splitlines()], "is used")
    fault.lost(Run.step_of(newest) - Run.step_of(older), Run.step_of(newest) - Run.step_of(older))
    fault.equal(alike(run.path, plain[kind].path))


@pytest.mark.parametrize("kind", RUNS)
def test_it_is_measured_by_the_one_before_and_says_that_it_has_not_finished(kind, plain, tmp_path):
    run = cut(plain[kind], tmp_path / "run")
    newest, older = run.checkpoints()
    said = here("evaluate", run.path)
    assert f"has not finished: this is its checkpoint of step {Run.step_of(newest)}" in said and "is used" not in said
    flip(newest, 1)
    said = here("evaluate", run.path)
    assert f"is used: {older.name}" in said and f"checkpoint of step {Run.step_of(older)}" in said
    flip(older, 1)
    said = here("evaluate", run.path, code=2)
    assert said.count("\n") == 1 and newest.name in said
    assert "has not finished" not in here("evaluate", plain[kind].path)


def test_samples_of_a_run_that_has_not_finished_say_so(plain, tmp_path):
    run = cut(plain["model"], tmp_path / "run")
    newest, older = run.checkpoints()
    assert "has not finished: this is its checkpoint of step 6 of 6" in here("sample", run.path, "--n", 2)
    flip(newest)
    said = here("sample", run.path, "--n", 2)
    assert f"is used: {older.name}" in said and "step 4 of 6" in said


def fields(x, at=()):
    """The paths of all that a checkpoint's dictionaries and lists hold."""
    for key, value in x.items() if isinstance(x, dict) else enumerate(x) if isinstance(x, list) else ():
        yield (*at, key)
        yield from fields(value, (*at, key))


@pytest.mark.parametrize("command", ["resume", "evaluate"])
@pytest.mark.parametrize("kind", RUNS)
def test_one_that_lacks_something_is_one_sentence_or_works(kind, command, plain, tmp_path):
    """Every part of the first levels is taken out, or is something else."""
    whole = plain[kind].load(plain[kind].checkpoints()[1])
    deep = 2 if kind == "model" else 4
    paths = [path for path in fields(whole) if len(path) <= deep and path[0] != "reprise"]
    for path in random.Random(0).sample(paths, min(6, len(paths))) + [path for path in paths if len(path) == 1]:
        for other in (None, "x"):
            run = cut(plain[kind], tmp_path / "run")
            (run.path / "metrics.jsonl").write_text("")
            newest, older = run.checkpoints()
            newest.unlink()
            state = plain[kind].load(plain[kind].checkpoints()[1])
            place = state
            for key in path[:-1]:
                place = place[key]
            if other is None and isinstance(place, dict):
                del place[path[-1]]
            else:
                place[path[-1]] = other
            checkpoint.save(older, state)
            said = said_by(command, run.path)
            assert "Traceback" not in said, path
            shutil.rmtree(run.path)


def said_by(command, path):
    """What a command printed, whether it refused or not."""
    try:
        return here(command, path)
    except AssertionError as error:
        code, said = error.args[0]
        assert code == 2, said
        assert said.count("\nreprise: ") + said.startswith("reprise: ") >= 1, said
        return said


@pytest.mark.parametrize("name", ["os.system", "cloudpickle", "local_process", "setstate", "dotted"])
def test_a_strangers_agent_resumes_and_runs_nothing(name, plain, tmp_path, monkeypatch):
    (tmp_path / "modules").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "modules")
    run, mark = cut(plain["agent"], tmp_path / "run"), tmp_path / "mark"
    evil = torch.frombuffer(bytearray(payloads(mark, tmp_path / "modules")[name]), dtype=torch.uint8)
    run.checkpoints()[0].unlink()
    (path,) = run.checkpoints()
    state = run.load(path)
    for runner in state["learners"][0]["runners"]:
        runner |= {"env": evil}
    checkpoint.save(path, state)
    said = here("resume", run.path) + (run.path / "log.txt").read_text()
    assert not mark.exists()
    assert said.count("begin new episodes, but --trust restores them") == 1
    assert json.loads((run.path / "result.json").read_text())["step"] == 800
