"""The verbs on a real Slurm: a training that was stopped ends as if it had not been, and a reproduction uses all nodes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.job import Job, Resources, State
from cluster.slurm import Slurm
from ray_jobs.run import Spec, Where
from ray_jobs.train import launch
from tests.cluster import slurms
from tests.cluster.test_slurm import hurry, number, until
from tests.ray_jobs.command import equal, lines, newest

ROOT = Path(__file__).parents[2]
POINTS = {"steps": 400, "batch": 64, "width": 16, "levels": 25, "log_every": 5, "save_every": 20}
SMALL = ("--settings", json.dumps({"steps": 600}))


@pytest.fixture(scope="module", autouse=True)
def slurm():
    slurms.open_slurm()


def reprise(folder: Path, *words: str, **more) -> Job:
    env = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return Job("job", (sys.executable, "-m", "ray_jobs.cli", *words), env=env, workdir=folder, **more)


def test_a_training_that_made_room_ends_with_the_same_bits(tmp_path):
    place = Slurm(shared=str(tmp_path), grace=20)
    settings = [word for name, value in POINTS.items() for word in (f"--{name}", str(value))]
    id = place.submit(reprise(tmp_path, "train", "ddpm_mixture2d", "--seed", "1", *settings))
    run = tmp_path / f"runs/ddpm_mixture2d-seed1-{id}"
    until(lambda: len(lines(run)) >= 4)
    subprocess.run(["scancel", "--batch", "--signal=USR1", number(tmp_path, id)], check=True)  # as before a time limit
    hurry(number(tmp_path, id))
    assert json.loads((run / "status.json").read_text())["state"] == "stopped"
    assert "going on from step" in "".join(place.logs(id, True))
    assert place.state(id) is State.succeeded
    whole = launch(Spec("ddpm_mixture2d", POINTS, 1, Where(address="local"), str(tmp_path / "whole")))
    assert lines(run) == lines(whole.path)
    assert equal(newest(run)["state_dict"], newest(whole.path)["state_dict"])


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
