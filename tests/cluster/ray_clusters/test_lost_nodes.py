"""Nodes and heads of a real cluster, killed with all that runs on them while `reprise train --address` works there."""

import json
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.ray_clusters import nodes, record
from cluster.ray_clusters.plan import LOOPBACK, Cluster, client_env, plan_cluster
from ray_jobs.reproduce import seeds
from ray_jobs.reproduce.seeds import Seed
from tests.ray_jobs.command import alike, lines, reprise, start, wait_for

ROOT = Path(__file__).parents[3]
POINTS = ["--steps", 400, "--batch", 64, "--width", 16, "--levels", 25, "--log_every", 5, "--save_every", 20]
BALANCE = ["--steps", 131072, "--save_every", 8192, "--log_every", 2048, "--stop_return", 1000, "--eval_episodes", 4]
COMMANDS = {
    "generative model": ["train", "ddpm_mixture2d", *POINTS, "--workers", 2],
    "agent": ["train", "ppo_cartpole", *BALANCE, "--runners", 2],
}
EVERY = {"generative model": 20, "agent": 8192}


@pytest.fixture()
def lab(tmp_path, monkeypatch) -> Iterator[Cluster]:
    """A cluster that is to lose something: a head with one core, and two nodes with another one each."""
    monkeypatch.setenv("REPRISE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    made = replace(plan_cluster("lab", 3, 1, 0, 0, {}, LOOPBACK), object_store=80_000_000)
    try:
        yield nodes.up(made, token=False)
    finally:
        for left in record.known():
            nodes.down(left)


def lose(cluster: Cluster, index: int) -> None:
    """As if a machine had lost its power: its Ray, and every process that Ray had started there."""
    for who in nodes.marked(cluster, index):
        os.kill(who["pid"], signal.SIGKILL)


def hosts(cluster: Cluster, what: str) -> set[int]:
    """The nodes on which a Ray process of this title runs."""
    return {
        index
        for index in range(len(cluster.nodes))
        for who in nodes.marked(cluster, index)
        if what in Path(f"/proc/{who['pid']}/cmdline").read_text(errors="replace")
    }


def behead(cluster: Cluster, words: list, run: Path) -> tuple[str, str]:
    """What a command says on both streams whose cluster loses its head while it trains in a run folder."""
    here = client_env(cluster) | {"RAY_AUTH_MODE": "disabled"}
    with start(*words, "--address", cluster.address, env=here) as process:
        wait_for(lambda: len(lines(run)) >= 6, process)
        lose(cluster, 0)
        out, err = process.communicate(timeout=240)
    assert process.returncode == 1, (out, err)
    assert "Traceback" not in err
    return out, err


def continued_from(said: str) -> int:
    return int(re.search(r"from step (\d+)", said)[1])


@pytest.mark.slow
@pytest.mark.fault("node", "one of two workers of a generative model loses its node")
def test_a_group_that_loses_a_node_continues_elsewhere(lab, tmp_path, fault):
    run, whole = tmp_path / "run", tmp_path / "whole"
    with start(
        *COMMANDS["generative model"],
        "--address",
        lab.address,
        "--out",
        run,
        env=client_env(lab) | {"RAY_AUTH_MODE": "disabled"},
    ) as process:
        wait_for(lambda: len(lines(run)) >= 6, process)
        lose(lab, (hosts(lab, "RayTrainWorker") - hosts(lab, "Mailbox")).pop())
        at = lines(run)[-1]["step"]
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, (out, err)
    fault.lost(max(0, at - continued_from(fault.saw(out, "continuing from step"))), EVERY["generative model"])
    reprise(*COMMANDS["generative model"], "--out", whole, "-q")
    fault.equal(alike(run, whole))


@pytest.mark.slow
@pytest.mark.fault(
    "node", "the head of the cluster dies under the training of a {kind}, which is resumed on this machine"
)
@pytest.mark.parametrize("kind", COMMANDS)
def test_a_training_whose_head_dies_ends_with_one_sentence(kind, lab, tmp_path, fault):
    run, whole = tmp_path / "run", tmp_path / "whole"
    _, err = behead(lab, [*COMMANDS[kind], "--out", run], run)
    fault.saw(err, r"^reprise: .*The (cluster's head is gone|head of the Ray cluster)")
    at = lines(run)[-1]["step"]
    fault.lost(at - continued_from(reprise("resume", run, "--address", "local")), EVERY[kind])
    reprise(*COMMANDS[kind], "--out", whole, "-q")
    fault.equal(alike(run, whole))


@pytest.mark.slow
@pytest.mark.fault("node", "the head of the cluster dies under a reproduction, which continues on this machine")
def test_a_reproduction_whose_head_dies_says_so_and_continues_elsewhere(lab, tmp_path, fault):
    settings = json.dumps({"steps": 131072, "save_every": 8192, "log_every": 2048, "stop_return": 1000})
    words = ["reproduce", "ppo_cartpole", "--seeds", 1, "--settings", settings, "--results", tmp_path / "kept"]
    run, whole = (tmp_path / name / "ppo_cartpole/seed-0" for name in ("out", "whole"))
    out, _ = behead(lab, [*words, "--out", tmp_path / "out"], run)
    fault.saw(out, r"The head of the Ray cluster .* 0 of 1 seeds have finished")
    wait_for(lambda: not seeds.held(Seed("ppo_cartpole", 0, str(run))), seconds=120)
    at = lines(run)[-1]["step"]
    reprise(*words, "--address", "local", "--out", tmp_path / "out")
    fault.lost(at - continued_from((run / "log.txt").read_text()), EVERY["agent"])
    reprise(*words, "--address", "local", "--out", tmp_path / "whole")
    fault.equal(alike(run, whole))
