"""Runs of earlier versions: whatever has other names now is one sentence where they are resumed, measured or sampled."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from ray_jobs import cli
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.run.folder import Run
from ray_jobs.train.launch import launch

MODEL = {"steps": 4, "batch": 16, "save_every": 2, "ema": 0.9}
AGENT = {"steps": 400, "envs": 2, "save_every": 200, "eval_episodes": 1}
COMMIT = "ec3101ae1c4923ab4e212a1044f5ff4473c01744"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run of a model and one of an agent."""
    at, here = tmp_path_factory.mktemp("earlier"), Where(address="local")
    return {
        "model": launch(Spec("nice_density2d", MODEL, 0, here, str(at / "model"))).path,
        "agent": launch(Spec("a2c_cartpole", AGENT, 0, here, str(at / "agent"))).path,
    }


def as_it_was(run: Path, out: Path, *, state=lambda found: found, **record) -> Path:
    """A copy of the run, unfinished, as an earlier version would have left it: other checkpoints and other entries of run.json."""
    shutil.copytree(run, out)
    (out / "result.json").unlink()
    file = out / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"git": COMMIT} | record))
    for path in Run.at(out).checkpoints():
        torch.save(state(torch.load(path, weights_only=True)), path)
    return out


def sentence(capsys, *words) -> str:
    """What a command says as it refuses."""
    capsys.readouterr()
    assert cli.main([*map(str, words)]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("reprise: ") and shown.err.count("\n") == 1, shown
    return shown.err


def with_old_names(weights):
    """Weights whose first one has another name."""
    first = next(iter(weights))
    return {("critic." + k if k == first else k): x for k, x in weights.items()}


def with_old_shapes(weights):
    """Weights whose first one is larger."""
    first = next(iter(weights))
    return weights | {first: torch.zeros(7, 7, 7)}


def without(weights):
    """Weights of which one is missing."""
    return dict(list(weights.items())[1:])


@pytest.mark.parametrize("verb", ["resume", "evaluate", "sample"])
@pytest.mark.parametrize("change", [with_old_names, with_old_shapes, without])
def test_a_models_weights_of_an_earlier_version_are_refused(verb, change, trained, tmp_path, capsys):
    old = as_it_was(
        trained["model"], tmp_path / "old", state=lambda s: s | {"state_dict": change(s["state_dict"]), "callbacks": {}}
    )
    shown = sentence(capsys, verb, old)
    assert shown.startswith(
        f"reprise: The checkpoint {old}/checkpoints/step-0000000004.ckpt was written by an earlier "
    )
    assert "weights of nice_density2d" in shown
    assert shown.endswith(f": train again or use that version (git commit {COMMIT}).\n")


@pytest.mark.parametrize("verb", ["resume", "evaluate"])
@pytest.mark.parametrize("change", [with_old_names, with_old_shapes, without])
@pytest.mark.parametrize("part", ["actor", "optimizers"])
def test_an_agents_checkpoint_of_an_earlier_version_is_refused(part, verb, change, trained, tmp_path, capsys):
    if part == "optimizers" and change is with_old_shapes:
        pytest.skip("optimisers have no shapes")

    def state(found):
        learner = found["learners"][0]["learner"]
        learner[part] = change(learner[part])
        return found

    old = as_it_was(trained["agent"], tmp_path / "old", state=state)
    log = old / "metrics.jsonl"
    lines = log.read_text() + '{"step": 1000000000, "time": 1.0}\n'
    log.write_text(lines)
    shown = sentence(capsys, verb, old)
    assert log.read_text() == lines, "lines after the checkpoint are lost, though the run was refused"
    assert f"{old}/checkpoints/step-" in shown and "was written by an earlier version of Reprise whose " in shown
    assert ("weights" if part == "actor" else "optimisers") + " of a2c_cartpole had other " in shown
    assert shown.endswith(f": train again or use that version (git commit {COMMIT}).\n")


@pytest.mark.parametrize("verb", ["resume", "evaluate", "sample"])
@pytest.mark.parametrize("which", ["model", "agent"])
def test_settings_that_are_gone_are_refused(which, verb, trained, tmp_path, capsys):
    settings = json.loads((trained[which] / "run.json").read_text())["settings"] | {"turns": 5}
    shown = sentence(capsys, verb, as_it_was(trained[which], tmp_path / "old", settings=settings))
    assert f"The run {tmp_path / 'old'} was written by an earlier version" in shown and "--turns" in shown
    assert shown.endswith(f": train again or use that version (git commit {COMMIT}).\n")


def test_what_fits_goes_on(trained, tmp_path, capsys):
    for which, path in trained.items():
        old = as_it_was(path, tmp_path / which, git=None)
        assert cli.main(["resume", str(old), "-q"]) == 0
    capsys.readouterr()


def test_the_status_stays_true(trained, tmp_path, capsys):
    old = as_it_was(
        trained["model"], tmp_path / "old", state=lambda s: s | {"state_dict": with_old_names(s["state_dict"])}
    )
    sentence(capsys, "resume", old)
    assert json.loads((old / "status.json").read_text())["state"] == "failed"
