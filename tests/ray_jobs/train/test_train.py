"""Training through the command line: what is killed resumes to the same bits, and what fails says why and loses nothing."""

import errno
import itertools
import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
import torch

from ray_jobs.errors import Failed, UsageError
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.run import files
from ray_jobs.run import folder as run_module
from ray_jobs.run.folder import Run
from ray_jobs.train.launch import launch, resume
from tests.ray_jobs.command import equal, here, lines, newest, reprise, start, wait_for

DIGITS = [
    "train",
    "ddpm_digits",
    "--steps",
    60,
    "--width",
    16,
    "--levels",
    25,
    "--batch",
    16,
    "--save_every",
    10,
    "--log_every",
    5,
]
POINTS = {"steps": 40, "batch": 64, "width": 16, "levels": 25, "log_every": 5, "save_every": 20}
STATE = ("state_dict", "optimizer_states", "callbacks", "global_step", "lr_schedulers")


def same(a: Path, b: Path) -> bool:
    return lines(a) == lines(b) and all(equal(newest(a)[k], newest(b)[k]) for k in STATE)


def points(out: Path, where: Where | None = None, **settings) -> Run:
    return launch(Spec("ddpm_mixture2d", POINTS | settings, 1, where or Where(address="local"), str(out)))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Digits trained in one go, for each number of workers."""
    made: dict[int, Path] = {}

    def trained(workers: int) -> Path:
        if workers not in made:
            made[workers] = tmp_path_factory.mktemp("digits") / str(workers)
            reprise(*DIGITS, "--workers", workers, "--out", made[workers], "-q")
        return made[workers]

    return trained


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return points(tmp_path_factory.mktemp("points") / "run")


@pytest.mark.fault("process", "a training with --workers {workers} is killed, and resumed")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_resumes_to_the_same_bits(digits, workers, tmp_path, fault):
    killed = tmp_path / "killed"
    with start(*DIGITS, "--workers", workers, "--out", killed) as process:
        wait_for(lambda: len(lines(killed)) >= 5, process)
    wait_for(lambda: not children(killed))
    at = last(killed)
    assert at < 60
    fault.lost(at - continued_from(fault.saw(reprise("resume", killed), "continuing from step")), 10)
    fault.equal(same(killed, digits(workers)))


def last(run: Path) -> int:
    """The last step that was logged."""
    return lines(run)[-1]["step"]


def continued_from(said: str) -> int:
    """From which step, as the user was told."""
    return int(re.search(r"from step (\d+)", said)[1])


def children(run: Path) -> list[str]:
    """The workers that still run for this folder."""
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout.splitlines()
    return [line for line in found if "ray_jobs.train.groups.ddp_worker" in line and str(run) in line]


@pytest.mark.fault("process", "a training with --workers {workers} gets {number.name}, and is resumed")
@pytest.mark.parametrize(("workers", "number"), [(1, signal.SIGINT), (1, signal.SIGTERM), (2, signal.SIGINT)])
def test_a_signal_saves_and_says_how_to_continue(digits, workers, number, tmp_path, fault):
    stopped = tmp_path / "stopped"
    with start(*DIGITS, "--workers", workers, "--out", stopped) as process:
        wait_for(lambda: len(lines(stopped)) >= 3, process)
        process.send_signal(number)
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    fault.saw(out, rf"Everything is saved; continue with: reprise resume {stopped}")
    status = json.loads((stopped / "status.json").read_text())
    assert status["state"] == "stopped" and newest(stopped)["global_step"] < 60
    at = last(stopped)
    fault.lost(max(0, at - continued_from(reprise("resume", stopped))), 0)
    fault.equal(same(stopped, digits(workers)))


@pytest.mark.fault("process", "one of two workers of a generative model is killed")
def test_a_killed_worker_is_replaced_and_nothing_changes(digits, tmp_path, fault):
    run = tmp_path / "run"
    with start(*DIGITS, "--workers", 2, "--out", run) as process:
        wait_for(lambda: len(lines(run)) >= 4, process)
        workers = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
        os.kill(int(workers[-1]), signal.SIGKILL)
        at = last(run)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, (out, err)
    fault.saw(out, "a worker died; the group restarts")
    fault.lost(at - continued_from(fault.saw(out, "continuing from step")), 10)
    fault.equal(same(run, digits(2)))


def test_one_and_two_workers_and_two_micro_batches_take_the_same_steps(plain, tmp_path):
    """The same global batch: losses agree up to the order of float32 sums."""
    two = points(tmp_path / "two", Where(workers=2, address="local"))
    parts = points(tmp_path / "parts", accumulate=2)
    for other in (two, parts):
        for a, b in zip(lines(plain.path), lines(other.path), strict=True):
            assert a["step"] == b["step"] and a["loss"] == pytest.approx(b["loss"], rel=1e-4)


def test_a_finished_run_has_all_that_a_user_expects(plain):
    names = {p.name for p in plain.path.iterdir()}
    assert {
        "run.json",
        "status.json",
        "result.json",
        "metrics.jsonl",
        "samples.png",
        "samples.npy",
        "curve.png",
        "log.txt",
    } <= names
    assert plain.read("status.json")["state"] == "finished"
    assert {"noise_excess", "frechet_ratio", "loss"} <= set(plain.result["metrics"])


def test_evaluating_again_gives_the_same_numbers(plain):
    said = json.loads(here("evaluate", plain.path, "--json"))
    for name, value in said["metrics"].items():
        assert value == pytest.approx(plain.result["metrics"][name], rel=1e-6)


def test_sampling_is_a_function_of_the_seed(plain):
    import numpy as np

    for name in "ab":
        here("sample", plain.path, "--n", 5, "--seed", 3, "--name", name)
    a, b = (np.load(plain.path / f"{n}.npy") for n in "ab")
    assert a.shape == (5, 2) and np.array_equal(a, b) and (plain.path / "a.png").stat().st_size > 1000


def test_resuming_a_finished_run_is_refused(plain):
    assert "is finished" in here("resume", plain.path, code=2)


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    out = tmp_path / "run"
    with pytest.raises(Failed, match=r"(loss|gradient|weight).* at step \d+"):
        points(out, lr=1e30, grad_clip=0, save_every=1)
    assert Run.open(out).read("status.json")["state"] == "failed"
    for path in Run.open(out).checkpoints():
        assert all(torch.isfinite(v).all() for v in torch.load(path, weights_only=True)["state_dict"].values())


def full_disk(monkeypatch, *steps: int) -> None:
    """A disk that is full whenever the checkpoint of one of these steps is written."""
    honest = files.write

    def write(path: Path, data, **more) -> None:
        if path.suffix == ".ckpt" and int(path.stem.split("-")[1]) in steps:
            raise OSError(errno.ENOSPC, "No space left on device")
        honest(path, data, **more)

    monkeypatch.setattr(run_module, "write", write)


def test_a_full_disk_in_between_ends_no_training(tmp_path, monkeypatch, plain):
    full_disk(monkeypatch, 20)
    said = []
    run = launch(Spec("ddpm_mixture2d", POINTS, 1, Where(address="local"), str(tmp_path / "run")), report=said.append)
    assert any("checkpoint of step 20 could not be written" in e.get("note", "") for e in said)
    assert same(run.path, plain.path)


def test_a_full_disk_at_the_end_is_told_and_the_run_can_continue(tmp_path, monkeypatch, plain):
    full_disk(monkeypatch, 40)
    with pytest.raises(Failed, match="No space left on device"):
        points(tmp_path / "run")
    monkeypatch.undo()
    resume(str(tmp_path / "run"))
    assert same(tmp_path / "run", plain.path)


def test_two_runs_in_the_same_folder(plain):
    with pytest.raises(UsageError, match="already holds a run"):
        points(plain.path)


def test_a_remote_folder_by_uri(tmp_path, monkeypatch, plain):
    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path / "cache"))
    points(f"file://{tmp_path}/store/run")
    assert same(tmp_path / "store/run", plain.path) and (tmp_path / "store/run/samples.png").exists()


@pytest.mark.parametrize("settings", [{"precision": "bf16-mixed"}, {"ema": 0.0}, {"grad_clip": 0.1}], ids=str)
def test_options_of_training(tmp_path, settings, plain):
    changed = points(tmp_path / "run", **settings)
    assert changed.result["step"] == 40
    assert ("ema" in settings) == (newest(changed.path)["callbacks"].keys() != newest(plain.path)["callbacks"].keys())
    if "ema" not in settings:
        assert lines(changed.path) != lines(plain.path)


@pytest.mark.slow  # a group with fewer workers than were asked for stands for it: test_elastic.py
def test_on_a_ray_cluster_the_same_code_takes_the_same_steps(ray_cluster, plain, tmp_path):
    said = []
    address = ray_cluster.get_runtime_context().gcs_address
    spec = Spec("ddpm_mixture2d", POINTS, 1, Where(workers=2, address=address), str(tmp_path / "run"))
    run = launch(spec, report=said.append)
    assert said and run.result["step"] == 40
    for a, b in zip(lines(plain.path), lines(run.path), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)


def test_more_workers_than_the_cluster_has(ray_cluster, tmp_path):
    spec = Spec("ddpm_mixture2d", POINTS | {"batch": 640}, 1, Where(workers=64, address="auto"), str(tmp_path / "run"))
    with pytest.raises(UsageError, match="--workers 64 need one each"):
        launch(spec)


def test_a_cluster_that_does_not_answer(tmp_path):
    said = reprise("train", "ddpm_mixture2d", "--address", "127.0.0.1:1", "--out", tmp_path / "run", code=2)
    assert "No Ray cluster answers at 127.0.0.1:1" in said and "Traceback" not in said


# ---- agents

CARTPOLE = ["train", "ppo_cartpole", "--steps", 65536, "--save_every", 8192, "--log_every", 2048]
CARTPOLE += ["--stop_return", 1000, "--eval_episodes", 4]


def agent(run: Path) -> list:
    """Weights, optimisers, generators and books of an agent's checkpoint; its clocks, and its pickles, which hold the same
    environments in other bytes, aside: those show in the next metrics."""
    found = [{k: learner[k] for k in ("learner", "ledger")} for learner in newest(run)["learners"]]
    for books in (learner["ledger"] for learner in found):
        books.pop("seconds")
        books.pop("reached")
    return found


@pytest.mark.fault("process", "an agent's training with --runners {runners} is killed, and resumed")
@pytest.mark.parametrize("runners", [0, 2])
def test_a_killed_agent_resumes_to_the_same_bits(runners, tmp_path, fault):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    reprise(*CARTPOLE, "--runners", runners, "--out", whole, "-q")
    with start(*CARTPOLE, "--runners", runners, "--out", killed, "-q") as process:
        wait_for(lambda: len(lines(killed)) >= 7, process)
    at = last(killed)
    assert at < last(whole)
    fault.lost(at - continued_from(fault.saw(reprise("resume", killed), "continuing from step")), 8192)
    fault.equal(lines(killed) == lines(whole) and equal(agent(killed), agent(whole)))


AGENTS = {
    "dqn_cartpole": {"steps": 2400, "save_every": 480, "log_every": 240},
    "a3c_cartpole": {"steps": 16000, "save_every": 3200, "log_every": 800},
    "impala_cartpole": {"steps": 16000, "save_every": 3200, "log_every": 800},
}
"""Replay, Gradients and Stream; above is Fresh."""


def killed_agent(recipe: str, out: Path, runners: int) -> None:
    """An agent's run that was killed after its first checkpoint and before its last."""
    settings = [w for k, v in AGENTS[recipe].items() for w in (f"--{k}", v)]
    with start("train", recipe, *settings, "--eval_episodes", 2, "--runners", runners, "--out", out) as process:
        wait_for(lambda: list((out / "checkpoints").glob("*.ckpt")) and len(lines(out)) >= 5, process)
    assert not (out / "result.json").exists()


@pytest.mark.fault("process", "an agent's training is killed, and resumed ({recipe})")
@pytest.mark.parametrize("recipe", AGENTS)
def test_a_killed_agent_of_every_other_kind_resumes_to_the_same_bits(recipe, tmp_path, capfd, fault):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    launch(Spec(recipe, AGENTS[recipe] | {"eval_episodes": 2}, 0, Where(address="local"), str(whole)))
    killed_agent(recipe, killed, 0)
    at = last(killed)
    here("resume", killed)
    said = fault.saw(capfd.readouterr().out, "continuing from step")
    fault.lost(max(0, at - continued_from(said)), AGENTS[recipe]["save_every"])
    fault.equal(lines(killed) == lines(whole) and equal(agent(killed), agent(whole)))


@pytest.mark.fault("process", "an agent's training whose runners wait for nobody is killed, and resumed")
def test_a_killed_agent_whose_runners_wait_for_nobody_continues(ray_cluster, tmp_path, fault):
    """To its last step, with every line of its metrics once; the log says from where."""
    run = tmp_path / "run"
    killed_agent("impala_cartpole", run, 2)
    at = last(run)
    resume(str(run))
    assert json.loads((run / "result.json").read_text())["metrics"]["env_steps"] >= 16000
    steps = [line["step"] for line in lines(run)]
    assert steps == sorted(set(steps)) and max(b - a for a, b in itertools.pairwise([0, *steps])) < 1200
    said = fault.saw((run / "log.txt").read_text(), r"^\S+ continuing from step \d+$")
    fault.lost(max(0, at - continued_from(said)), 3200)
    fault.unequal("another: which fragment comes first is chance")


def test_an_agent_that_is_stopped_continues(tmp_path):
    run = tmp_path / "run"
    with start(*CARTPOLE, "--out", run) as process:
        wait_for(lambda: len(lines(run)) >= 3, process)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and f"reprise resume {run}" in out
    assert json.loads((run / "status.json").read_text())["state"] == "stopped"
    reprise("resume", run, "-q")
    said = json.loads(here("evaluate", run, "--json"))
    result = json.loads((run / "result.json").read_text())["metrics"]
    assert {k: result[k] for k in said["metrics"]} == said["metrics"]
    assert (run / "curve.png").exists()
