"""The run folder: whole files only, one owner, damaged checkpoints passed over, and the same folder at a remote address."""

import errno
import json
import os
import subprocess
import sys

import pytest
import torch

from ray_jobs.errors import UsageError
from ray_jobs.recipe.spec import Spec
from ray_jobs.run.files import write
from ray_jobs.run.folder import Run


@pytest.fixture()
def run(tmp_path):
    made = Run.create(
        Spec("ddpm_digits", {"lr": 1e-3}, 3, out=str(tmp_path / "run")), kind="Fit", command=["reprise", "a b"]
    )
    yield made
    made.release()


def test_it_says_what_was_run(run):
    said = run.read("run.json")
    assert said["recipe"] == "ddpm_digits" and said["seed"] == 3 and said["settings"] == {"lr": 1e-3}
    assert said["command"] == "reprise 'a b'" and said["versions"]["torch"] == torch.__version__
    assert run.spec == Spec("ddpm_digits", {"lr": 1e-3}, 3, out=str(run.path))


def test_metrics_are_readable_while_it_runs_and_a_cut_line_is_passed_over(run):
    run.log(1, {"loss": 2.0})
    run.log(2, {"loss": 1.0})
    with open(run.path / "metrics.jsonl", "a") as f:
        f.write('{"step": 3, "lo')
    assert [(m["step"], m["loss"]) for m in run.metrics()] == [(1, 2.0), (2, 1.0)]
    assert list((run.path / "tensorboard").iterdir())


def test_rewind_drops_what_will_be_logged_again(run):
    for step in range(1, 6):
        run.log(step, {"loss": step})
    run.rewind(3)
    run.log(4, {"loss": 40})
    assert [m["loss"] for m in run.metrics()] == [1, 2, 3, 40]


def test_the_newest_two_checkpoints_are_kept(run):
    for step in (1, 2, 10):
        run.save(step, {"w": torch.full((3,), float(step))})
    assert [p.name for p in run.checkpoints()] == ["step-0000000010.ckpt", "step-0000000002.ckpt"]
    assert torch.equal(run.latest()["w"], torch.full((3,), 10.0))


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_cut_off_checkpoint_is_passed_over_and_noted(run, keep):
    run.save(1, {"w": torch.zeros(1000)})
    newest = run.save(2, {"w": torch.ones(1000)})
    data = newest.read_bytes()
    newest.write_bytes(data[: int(keep * len(data)) if keep < 1 else keep])
    assert torch.equal(run.latest()["w"], torch.zeros(1000))
    assert "cut off" in run.notes[0] and newest.name in run.notes[0]


def test_where_no_checkpoint_can_be_read_it_says_so(run):
    run.save(1, {"w": torch.zeros(3)}).write_bytes(b"x")
    with pytest.raises(UsageError, match="cannot be read"):
        run.latest()


def test_the_checkpoint_of_another_recipe_is_refused(run, tmp_path):
    other = Run.create(Spec("ppo_cartpole", out=str(tmp_path / "other")), kind="Play")
    path = other.save(1, {"w": torch.zeros(3)})
    (run.path / "checkpoints").mkdir()
    (run.path / "checkpoints" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UsageError, match="written by the recipe ppo_cartpole, but this run's is ddpm_digits"):
        run.latest()


def test_a_checkpoint_holds_no_code(run):
    path = run.save(1, {"w": torch.zeros(3)})
    torch.save({"reprise": {"recipe": "ddpm_digits"}, "evil": os.system}, path)
    with pytest.raises(UsageError, match="cannot be read"):
        run.load(path)


def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    target = tmp_path / "x"
    write(target, b"old")

    def full(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(target, b"new")
    assert target.read_bytes() == b"old" and list(tmp_path.iterdir()) == [target]


def test_two_runs_in_one_folder(run):
    with pytest.raises(UsageError, match="already holds a run: continue it with 'reprise resume"):
        Run.create(Spec("ddpm_digits", out=str(run.path)), kind="Fit")
    with pytest.raises(UsageError, match="Another process is at work"):
        Run.open(run.path).lock()
    run.release()
    Run.open(run.path).lock().release()


def test_the_lock_dies_with_its_process(run):
    run.release()
    code = (
        f"import os; from ray_jobs.run.folder import Run; Run.open({str(run.path)!r}).lock(); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    Run.open(run.path).lock().release()


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(UsageError, match="is not a run folder"):
        Run.open(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        Run.create(Spec("ddpm_digits", out=str(tmp_path / "file" / "run")), kind="Fit")


@pytest.fixture()
def remote(tmp_path, monkeypatch):
    """An address, and a way to become another machine, whose local copy is empty."""
    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path / "here"))
    return f"file://{tmp_path}/store/run", lambda: monkeypatch.setenv("REPRISE_CACHE", str(tmp_path / "there"))


def test_a_remote_folder_is_the_same_from_another_machine(remote):
    uri, elsewhere = remote
    here = Run.create(Spec("ddpm_digits", out=uri), kind="Fit")
    for step in (1, 2, 3):
        here.log(step, {"loss": step})
        here.save(step, {"w": torch.full((2,), float(step))})
    here.release()
    elsewhere()
    there = Run.open(uri)
    assert there.path != here.path and str(there) == uri
    assert torch.equal(there.latest()["w"], torch.full((2,), 3.0))
    assert [p.name for p in there.checkpoints()] == [p.name for p in here.checkpoints()] and len(
        there.checkpoints()
    ) == 2
    assert [m["loss"] for m in there.metrics()] == [1, 2, 3]
    there.finish({"m": 1.0}, step=3, device="cpu")
    assert json.loads(open(uri.removeprefix("file://") + "/result.json").read())["metrics"] == {"m": 1.0}


def test_a_remote_folder_that_holds_a_run_is_not_overwritten(remote):
    uri, elsewhere = remote
    first = Run.create(Spec("ddpm_digits", out=uri), kind="Fit")
    first.push()
    elsewhere()
    with pytest.raises(UsageError, match="already holds a run"):
        Run.create(Spec("ddpm_digits", out=uri), kind="Fit")


def test_an_unknown_protocol():
    with pytest.raises(UsageError, match="cannot be used"):
        Run.open("nosuch://bucket/run")
