"""Who computes a shard must not change what comes of it; lost shards are computed again, errors are raised once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ray_jobs.distributed import actor_pool, crew
from ray_jobs.distributed.connection import Lost
from ray_jobs.errors import UsageError
from tests.ray_jobs.distributed.shards import Deadly, Estimate, Last, Refuses, die, pid, raise_odd, sleep

ROOT = Path(__file__).parents[3]


def same(a: list, b: list) -> bool:
    """Whether two lists of answers are equal bit for bit."""
    return len(a) == len(b) and all(np.array_equal(x[k], y[k]) for x, y in zip(a, b, strict=True) for k in x)


def at_work(team: crew.Crew) -> set[int]:
    """The processes of all workers, once all of them have started."""
    until = time.monotonic() + 120
    while len(found := set(team.map(pid, range(3 * team.workers)))) < team.workers:
        assert time.monotonic() < until
    return found


def two_steps(team: crew.Crew) -> list:
    return team.map(Estimate(5, 0), range(10)) + team.map(Estimate(5, 1), range(10))


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_the_same_bits_here_and_on_any_number_of_workers(workers, ray_cluster):
    """Eight workers are more than the cluster has room for: those that have started do the work."""
    with crew.OnRay(workers, 0) as team:
        assert same(two_steps(team), two_steps(crew.Here()))
        assert team.map(pid, []) == []
        assert team.deaths == 0


def test_answers_are_in_the_order_of_the_shards_and_no_worker_waits_for_another(ray_cluster, tmp_path):
    """One slow shard, which waits for the end of all others, keeps one worker; the other computes all the rest meanwhile."""
    with crew.OnRay(2, 0) as team:
        at_work(team)
        slow, *quick = team.map(Last(str(tmp_path), 8), range(9))
        assert slow not in quick
        assert len(set(quick)) == 1


@pytest.mark.fault("process", "a worker of a crew dies in its shard: {how}")
@pytest.mark.parametrize("how", ["kill", "hang"])
def test_a_lost_shard_is_computed_again(how, ray_cluster, tmp_path, monkeypatch, fault):
    monkeypatch.setattr(crew, "SHARD_LIMIT", 2.0)
    monkeypatch.setattr(crew, "START_LIMIT", 2.0)
    notes, function = [], Deadly(str(tmp_path / "died"), how)
    with crew.OnRay(2, 1, report=lambda e: notes.append(e["note"])) as team:
        found = team.map(function, range(8))
        assert (tmp_path / "died").exists()
        assert team.deaths == 1
        why = r"gave no answer for 2 s" if how == "hang" else r"died \(its process ended\)"
        fault.saw(notes, rf"^Worker [01] {why}; another computes its shard again \(death 1 of 1 allowed\)\.$")
        fault.lost(1, 1)
        fault.equal(same(found, crew.Here().map(Estimate(0, 0), range(8))))
        assert len(at_work(team)) == 2, "the worker was replaced"


@pytest.mark.fault
def test_a_worker_that_is_killed_at_rest_is_replaced(ray_cluster):
    with crew.OnRay(2, 1) as team:
        victim, other = at_work(team)
        os.kill(victim, signal.SIGKILL)
        assert victim not in team.map(pid, range(6))
        assert at_work(team) - {other} and team.deaths == 1


@pytest.mark.fault
def test_workers_that_die_too_often_are_given_up_with_one_sentence(ray_cluster):
    notes = []
    said = (
        r"^Workers died 2 times, more often than --max_failures allows; the last: Worker 0 died \(its process ended\)\. "
        r"'reprise resume' continues from the last checkpoint\.$"
    )
    with crew.OnRay(1, 1, report=notes.append) as team, pytest.raises(Lost, match=said):
        team.map(die, range(3))
    assert len(notes) == 1


@pytest.mark.parametrize("where", ["here", "on ray"])
def test_an_error_of_the_function_is_raised_once_and_not_tried_again(where, ray_cluster, tmp_path):
    calls = tmp_path / "calls"
    with crew.Here() if where == "here" else crew.OnRay(2, 3) as team:
        with pytest.raises(UsageError) as raised:
            team.map(Refuses(str(calls)), range(4))
        assert str(raised.value) == "Shard 2 cannot be."
        assert calls.read_text().splitlines() == ["called"]
        assert team.deaths == 0
        assert same(team.map(Estimate(1, 1), range(3)), crew.Here().map(Estimate(1, 1), range(3)))


def test_an_error_that_cannot_be_sent_keeps_its_name_and_message(ray_cluster):
    with crew.OnRay(1, 0) as team, pytest.raises(RuntimeError, match=r"^Odd: 1 and 2"):
        team.map(raise_odd, [0])


def test_a_map_is_left_when_it_should_stop(ray_cluster):
    """Also while workers compute long shards; here, before the next one."""
    asked = []

    def soon() -> bool:
        asked.append(time.monotonic())
        return asked[-1] - asked[0] > 0.5

    with crew.OnRay(1, 0, should_stop=soon) as team:
        with pytest.raises(crew.Stopped):
            team.map(sleep, [60.0])
        assert time.monotonic() - asked[0] < 10
    answers = iter([False, True])
    with pytest.raises(crew.Stopped):
        crew.Here(lambda: next(answers)).map(pid, range(3))


def test_workers_without_a_cpu_are_reported_and_given_up(ray_cluster, monkeypatch):
    from ray.util.placement_group import placement_group, remove_placement_group

    monkeypatch.setattr(actor_pool, "PATIENCE", 0.2)
    monkeypatch.setattr(actor_pool, "START_LIMIT", 0.7)
    everything, notes = placement_group([{"CPU": 4}]), []
    ray_cluster.get(everything.ready())
    try:
        with (
            crew.OnRay(1, 0, report=lambda e: notes.append(e["note"])) as team,
            pytest.raises(
                Lost, match=r"^Worker 0 found no free CPU on the cluster within 1 s: make room and resume, or"
            ),
        ):
            team.map(pid, range(2))
    finally:
        remove_placement_group(everything)
    assert notes[-1].startswith("Worker 0 has waited")


SCRIPT = """
import sys
from ray_jobs.distributed.crew import OnRay, Stopped
from ray_jobs.run.signals import stopping
from tests.ray_jobs.distributed.shards import has_torch, pid, sleep

with stopping() as stop, OnRay(1, 0, "local", should_stop=stop.is_set) as crew:
    print("torch", "torch" in sys.modules, crew.map(has_torch, [0]), *crew.map(pid, [0]), flush=True)
    try:
        crew.map(sleep, [60.0])
    except Stopped:
        print("stopped", flush=True)
"""


def test_workers_import_no_torch_and_ctrl_c_leaves_no_process():
    """In a process and a Ray of its own: of the session's, a worker may have been used before."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}  # workers import nothing from the current folder
    child = subprocess.Popen([sys.executable, "-c", SCRIPT], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    try:
        words = child.stdout.readline().split()
        assert words[:3] == ["torch", "False", "[False]"]
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=60)[0] == "stopped\n"
        assert child.returncode == 0
        with pytest.raises(ProcessLookupError):
            os.kill(int(words[3]), 0)
    finally:
        child.kill()
