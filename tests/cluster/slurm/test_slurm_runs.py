"""The verbs on a real Slurm: a training that was stopped ends as if it had not been, and a reproduction uses all nodes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.job import Job, Resources, State
from cluster.slurm.launcher import Slurm
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.train.launch import launch
from tests.cluster import slurms
from tests.cluster.slurm.test_slurm import ask, hurry, number, until
from tests.ray_jobs.command import equal, lines, newest

pytestmark = pytest.mark.fault

ROOT = Path(__file__).parents[3]
POINTS = {"steps": 400, "batch": 64, "width": 16, "levels": 25, "log_every": 5, "save_every": 20}
SMALL = ("--settings", json.dumps({"steps": 600}))


@pytest.fixture(scope="module", autouse=True)
def slurm():
    slurms.open_slurm()


def reprise(folder: Path, *words: str, **more) -> Job:
    env = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return Job("job", (sys.executable, "-m", "ray_jobs.cli", *words), env=env, workdir=folder, **more)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The training that nobody disturbs."""
    out = str(tmp_path_factory.mktemp("points") / "whole")
    return launch(Spec("ddpm_mixture2d", POINTS, 1, Where(address="local"), out)).path


def begun(place: Slurm, folder: Path) -> tuple[str, Path]:
    """A training as a job that has logged its twentieth step: the job and the run."""
    settings = [word for name, value in POINTS.items() for word in (f"--{name}", str(value))]
    id = place.submit(reprise(folder, "train", "ddpm_mixture2d", "--seed", "1", *settings))
    run = folder / f"runs/ddpm_mixture2d-seed1-{id}"
    until(lambda: len(lines(run)) >= 5)
    return id, run


def continued_from(place: Slurm, id: str, run: Path, whole: Path, fault) -> int:
    """From which step the next attempt continued; it ended like the training that nobody disturbed."""
    said = fault.saw("".join(place.logs(id, True)), "continuing from step")
    assert place.state(id) is State.succeeded
    same = lines(run) == lines(whole) and equal(newest(run)["state_dict"], newest(whole)["state_dict"])
    fault.equal(same)
    return int(said.split()[-1])


@pytest.mark.fault("job", "Slurm warns a training of its time limit")
def test_a_training_that_made_room_ends_with_the_same_bits(tmp_path, whole, fault):
    place = Slurm(shared=str(tmp_path), grace=20)
    id, run = begun(place, tmp_path)
    subprocess.run(["scancel", "--batch", "--signal=USR1", number(tmp_path, id)], check=True)  # as before a time limit
    hurry(number(tmp_path, id))
    assert json.loads((run / "status.json").read_text())["state"] == "stopped"
    at = lines(run)[-1]["step"]
    fault.lost(max(0, at - continued_from(place, id, run, whole, fault)), 0)


@pytest.mark.fault("node", "Slurm loses the node of a training")
def test_a_training_whose_node_is_lost_ends_with_the_same_bits(tmp_path, whole, fault):
    place = Slurm(shared=str(tmp_path), grace=20)
    id, run = begun(place, tmp_path)
    node = ask("squeue", "--noheader", f"--jobs={number(tmp_path, id)}", "--format=%N").strip()
    slurms.crash(node, number(tmp_path, id))
    try:
        at = lines(run)[-1]["step"]
        hurry(number(tmp_path, id))
        fault.lost(at - continued_from(place, id, run, whole, fault), POINTS["save_every"])
    finally:
        slurms.repair(node)


def test_a_reproduction_on_two_nodes_runs_its_seeds_on_both(tmp_path):
    place = Slurm(shared=str(tmp_path))
    command = ["reproduce", "ppo_cartpole", "--seeds", "2", *SMALL, "--out", str(tmp_path / "runs")]
    id = place.submit(reprise(tmp_path, *command, resources=Resources(cpus=1, nodes=2)))
    text = "".join(place.logs(id, True))
    assert "Recorded in" in text, text
    assert place.exit_code(id) == 1  # so short a training does not keep the claim
    assert all((tmp_path / f"runs/ppo_cartpole/seed-{seed}/result.json").exists() for seed in range(2))


def test_an_array_runs_one_seed_in_each_task_and_records_once(tmp_path):
    place = Slurm(shared=str(tmp_path), array=2)
    command = ["reproduce", "ppo_cartpole", "--seeds", "2", *SMALL, "--out", str(tmp_path / "runs")]
    id = place.submit(reprise(tmp_path, *command))
    text = "".join(place.logs(id, True))
    assert text.count("Recorded in") == 1, text
    assert "2 of 2 seeds finished earlier" in text
    assert place.exit_code(id) == 1
