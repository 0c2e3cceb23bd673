"""A node of a Ray cluster is cut off, continues by itself for a while, and comes back: training continues, and nothing is there twice."""

import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import partitions
from tests.cluster.partitions import Host, network
from tests.ray_jobs.command import equal, lines, newest, reprise, wait_for
from tests.ray_jobs.train.test_train import STATE

pytestmark = pytest.mark.skipif(bool(partitions.impossible()), reason=partitions.impossible() or "possible")
POINTS = ["train", "ddpm_mixture2d", "--width", 16, "--levels", 25, "--batch", 64, "--workers", 2]
SAVE = 100
POINTS += ["--steps", 1000, "--save_every", SAVE, "--log_every", 20]
CARTPOLE = ["train", "ppo_cartpole", "--steps", 81920, "--save_every", 8192, "--log_every", 2048]
CARTPOLE += ["--stop_return", 1000, "--eval_episodes", 4]
ROUND, LAST = 3584, 82432


@pytest.fixture(scope="module")
def lab() -> Iterator[list[Host]]:
    """A head without cores of its own, and two nodes of two cores each."""
    folder = Path(tempfile.mkdtemp(prefix="rp", dir="/tmp"))  # short: Ray puts sockets into it
    with network(3, folder) as hosts:
        hosts[0].ray(0)
        for host in hosts[1:]:
            host.ray(2, address(hosts))
        yield hosts
    shutil.rmtree(folder, ignore_errors=True)


def address(hosts: list[Host]) -> str:
    return f"{hosts[0].address}:6379"


class Cables:
    """Pulls nodes' cables; in the end every node is one of the cluster again."""

    def __init__(self, hosts: list[Host]) -> None:
        self.hosts, self.cut_off = hosts, []

    def cut(self, word: str) -> Host:
        """Cut off the first node on which a process of that name runs."""
        host = next(h for h in self.hosts[1:] if h.pids(word))
        host.link(up=False)
        self.cut_off.append(host)
        return host

    def mend(self) -> None:
        """Plug in what was pulled: Ray ends on a node that was taken for dead, and is restarted there."""
        for host in self.cut_off:
            host.link(up=True)
            wait_for(lambda host=host: not host.pids("raylet"), seconds=120)
            host.ray(2, address(self.hosts))
        self.cut_off = []


@pytest.fixture()
def cables(lab) -> Iterator[Cables]:
    made = Cables(lab)
    yield made
    made.mend()


def saved(run: Path) -> list[int]:
    return sorted(int(path.stem.split("-")[1]) for path in (run / "checkpoints").glob("*.ckpt"))


def begun_from(said: str) -> list[int]:
    return [int(step) for step in re.findall(r"continuing from step (\d+)", said)]


@pytest.mark.slow
@pytest.mark.fault("node", "the node that trains a generative model is cut off, and comes back while others train it")
def test_a_group_that_was_cut_off_writes_no_more_when_it_comes_back(lab, cables, tmp_path, fault):
    """Both workers are on that node: they could continue without us, and the folder is within their reach."""
    whole, run, out = tmp_path / "whole", tmp_path / "run", tmp_path / "out.txt"
    reprise(*POINTS, "--address", "local", "--out", whole, "-q")
    driver = lab[0].reprise(*POINTS, "--address", address(lab), "--out", run, out=out)
    wait_for(lambda: saved(run), driver)
    host = cables.cut("RayTrainWorker")
    reached = lines(run)[-1]["step"]
    wait_for(lambda: begun_from(out.read_text()), driver)
    assert host.pids("RayTrainWorker"), "they should live, on their side"
    host.link(up=True)
    assert driver.wait(500) == 0, out.read_text()
    wait_for(lambda: not host.pids("RayTrainWorker"), seconds=60)
    said = out.read_text()
    fault.saw(said, r"worker \d died \(its node is gone\); the group continues from its last checkpoint \(death 1 of 3")
    [again] = begun_from(said)
    fault.lost(max(0, reached - again), SAVE)
    assert [line["step"] for line in lines(run)] == list(range(20, 1001, 20))
    assert json.loads((run / "status.json").read_text())["state"] == "finished"
    fault.equal(lines(run) == lines(whole) and all(equal(newest(run)[k], newest(whole)[k]) for k in STATE))


@pytest.mark.fault("node", "the node of an agent's runners is cut off, and comes back")
def test_runners_that_are_cut_off_are_replaced_and_heard_no_more(lab, cables, tmp_path, fault):
    run, out = tmp_path / "run", tmp_path / "out.txt"
    driver = lab[0].reprise(*CARTPOLE, "--runners", 2, "--address", address(lab), "--out", run, out=out)
    wait_for(lambda: len(lines(run)) >= 3, driver)
    host = cables.cut("RemoteRunner")
    wait_for(lambda: "a new one plays in its place" in out.read_text(), driver)
    host.link(up=True)
    assert driver.wait(500) == 0, out.read_text()
    fault.saw(out.read_text(), r"Runner \d died \((its node is gone|its connection is broken)\); a new one plays")
    assert [line["step"] for line in lines(run)] == list(range(ROUND, LAST + 1, ROUND))
    assert json.loads((run / "result.json").read_text())["metrics"]["env_steps"] == LAST
    fault.lost(0, 8192)
    fault.unequal("the new runner's episodes are others")


@pytest.mark.slow
@pytest.mark.fault("node", "the node of a reproduction's seed is cut off")
def test_a_seed_that_is_cut_off_continues_alone_and_is_waited_for(lab, cables, tmp_path, fault):
    """Its process holds the folder's lock: the driver, which takes it for dead, neither starts a second one nor begins afresh."""
    settings = json.dumps(
        {"steps": 409600, "save_every": 8192, "log_every": 2048, "stop_return": 1000, "eval_episodes": 4}
    )
    words = ["reproduce", "ppo_cartpole", "--seeds", 1, "--settings", settings, "--results", tmp_path / "kept"]
    whole, cluster, out = (tmp_path / name for name in ("whole", "cluster", "out.txt"))
    reprise(*words, "--address", "local", "--out", whole)
    run = cluster / "ppo_cartpole/seed-0"
    driver = lab[0].reprise(*words, "--address", address(lab), "--out", cluster, out=out)
    wait_for(lambda: len(lines(run)) >= 3, driver)
    cables.cut("run_there")
    wait_for(lambda: "started again" in out.read_text(), driver, seconds=60)
    assert driver.wait(500) == 0, out.read_text()
    fault.saw(out.read_text(), r"seed 0: its node is gone; it is started again")
    fault.lost(0, 8192)
    fault.equal(lines(run) == lines(whole / "ppo_cartpole/seed-0"))


@pytest.mark.slow
@pytest.mark.fault("node", "a node's Ray hangs while the workers on it continue, in touch with all others")
def test_a_group_that_was_given_up_may_write_no_more_though_it_lives(lab, tmp_path, fault):
    """Nobody ends these workers: Ray's own process on their node, which would, is stopped."""
    out = tmp_path / "out.txt"
    with open(out, "w") as said:
        driver = lab[0].start(
            sys.executable, "-m", "tests.cluster.zombies", address(lab), tmp_path, stdout=said, stderr=said
        )
    wait_for(lambda: all((tmp_path / f"life-1-rank-{rank}").exists() for rank in (0, 1)), driver)
    host = next(h for h in lab[1:] if h.pids("RayTrainWorker"))
    [raylet] = host.pids("ray/raylet/raylet")
    os.kill(raylet, signal.SIGSTOP)
    try:
        assert driver.wait(120) == 0, out.read_text()
        wait_for(lambda: all((tmp_path / f"refused-{rank}").exists() for rank in (0, 1)), seconds=30)
        assert (tmp_path / "over").exists() and host.pids("RayTrainWorker")
    finally:
        os.kill(raylet, signal.SIGKILL)
        wait_for(lambda: not host.pids("raylet"), seconds=60)
        host.ray(2, address(lab))
    fault.saw(out.read_text(), "its node is gone")
    fault.lost(0, 1, "writes")
    fault.unequal("nothing is trained")


@pytest.mark.slow
@pytest.mark.fault("node", "a node of a group that may be smaller is cut off, and is back when a worker dies")
def test_a_group_continues_fewer_and_grows_when_it_starts_again(lab, cables, tmp_path, fault):
    run, out = tmp_path / "run", tmp_path / "out.txt"
    words = [*POINTS, "--workers", 4, "--min_workers", 2, "--steps", 1000]
    driver = lab[0].reprise(*words, "--address", address(lab), "--out", run, out=out)
    wait_for(lambda: saved(run), driver)
    host = cables.cut("RayTrainWorker")
    reached = lines(run)[-1]["step"]
    wait_for(lambda: begun_from(out.read_text()), driver)
    fault.lost(max(0, reached - begun_from(out.read_text())[0]), SAVE)
    cables.mend()
    [left] = [h for h in lab[1:] if h is not host]
    os.kill(left.pids("RayTrainWorker")[0], signal.SIGKILL)
    assert driver.wait(400) == 0, out.read_text()
    said = out.read_text()
    fault.saw(said, "2 of 4 workers found place; training with 2")
    fault.saw(said, r"worker \d died \(its process ended\); .* \(death 2 of 3 allowed\)")
    assert said.count("found place") == 1 and len(begun_from(said)) == 2
    assert [line["step"] for line in lines(run)] == list(range(20, 1001, 20))
    fault.unequal("the same up to the order of sums")
