"""The harness of the benchmarks: its statistics, its order, its environments and what it does with a bad process."""

import os
import statistics
import sys
import time
from pathlib import Path

import pytest

from benchmarks import harness
from benchmarks.harness import alternate, environment, measure, paired_ratio, spread, timed, venv_commands


def script(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "script.py"
    path.write_text(text)
    return [sys.executable, str(path)]


def quartile(values, share):
    """By the definition: the order statistics are the knots, 0 and 1 the ends, a straight line between two knots."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


@pytest.mark.parametrize("values", [[3.0], [1.0, 2.0], [5.0, 1.0, 4.0], [9.0, 2.0, 7.0, 1.0, 8.0, 8.0]])
def test_spread_is_the_median_and_the_quartiles(values):
    got = spread(values)
    assert got.n == len(values)
    assert got.median == pytest.approx(statistics.median(values))
    assert (got.low, got.high) == pytest.approx((quartile(values, 0.25), quartile(values, 0.75)))


def test_a_paired_ratio_does_not_see_what_slows_both():
    slow = [1.0, 7.0, 3.0]
    ours, theirs = [{"s": 2.0 * x} for x in slow], [{"s": 8.0 * x} for x in slow]
    got = paired_ratio(ours, theirs, "s")
    assert (got.low, got.median, got.high) == pytest.approx((0.25, 0.25, 0.25))


def test_a_paired_ratio_leaves_out_rounds_that_one_did_not_reach():
    ours = [{"s": 1.0}, {"s": None}, {"error": "no"}, {"s": 3.0}]
    theirs = [{"s": 2.0}, {"s": 1.0}, {"s": 1.0}, {"s": None}]
    got = paired_ratio(ours, theirs, "s")
    assert (got.median, got.n) == (0.5, 1)
    assert paired_ratio([{"s": None}], [{"s": 1.0}], "s") is None


def test_every_contender_has_every_place_once_in_as_many_rounds():
    names = ["a", "b", "c"]
    order = list(alternate(names, 3))
    assert sorted(order) == sorted((name, i) for name in names for i in range(3))
    for name in names:
        assert {place % 3 for place, (who, _) in enumerate(order) if who == name} == {0, 1, 2}


def test_torch_comes_first_and_is_held_while_the_peer_is_installed():
    make, torch, peer = venv_commands(Path("/peers/x"), Path("/venvs/x"))
    assert make[1:] == ["-m", "venv", "/venvs/x"]
    assert torch[0] == peer[0] == "/venvs/x/bin/python"
    assert torch[-1] == harness.TORCH
    assert harness.TORCH in peer
    assert peer[-2:] == ["-r", "/peers/x/requirements.txt"]


def test_every_peer_has_a_script_and_none_asks_for_torchvision():
    folders = [p for p in harness.PEERS.iterdir() if p.is_dir() and p.name != "__pycache__"]
    assert len(folders) >= 4
    for folder in folders:
        assert list(folder.glob("*.py")), folder
        for line in folder.glob("requirements.txt"):
            assert "torchvision" not in line.read_text()


def test_a_process_sees_one_thread_and_only_ours_sees_the_repository():
    ours, theirs = environment(ours=True), environment(ours=False)
    assert ours["OMP_NUM_THREADS"] == theirs["OMP_NUM_THREADS"] == "1"
    assert str(harness.ROOT) in ours["PYTHONPATH"].split(os.pathsep)
    assert str(harness.ROOT) not in theirs["PYTHONPATH"].split(os.pathsep)


def test_measure_takes_the_last_line(tmp_path):
    row = measure(script(tmp_path, "print('noise'); print('{\"x\": 2}')"), ours=False, limit=30)
    assert row["x"] == 2
    assert row["wall_s"] > 0


def test_a_failure_and_a_missing_row_are_told_apart(tmp_path):
    failed = measure(script(tmp_path, "raise SystemExit('out of luck')"), ours=False, limit=30)
    assert "exit code 1" in failed["error"]
    assert "out of luck" in failed["error"]
    silent = measure(script(tmp_path, "print('hello')"), ours=False, limit=30)
    assert "no JSON row" in silent["error"]


def test_the_limit_ends_the_process_and_its_children(tmp_path):
    child = tmp_path / "child"
    text = (
        "import subprocess, sys, time, pathlib\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(child)!r}).write_text(str(p.pid))\n"
        "time.sleep(60)\n"
    )
    row = timed(script(tmp_path, text), ours=False, limit=2)
    assert "limit of 2 s" in row["error"]
    assert gone(int(child.read_text()))


def gone(pid: int, patience: float = 10.0) -> bool:
    """Whether a process ends within `patience` seconds; a zombie that nobody has waited for counts as ended."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
    return False
