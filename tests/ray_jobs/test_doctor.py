"""The doctor sees what is broken, says how to mend it, and is not stopped by it."""

import json
import shutil
from collections import namedtuple

import pytest

from ray_jobs import doctor as it
from ray_jobs.doctor import GIB, Row
from tests.cluster import approving, heads

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPRISE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "HF_DATASETS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def verdicts(check) -> dict[str, str]:
    return {row.name: row.verdict for row in check()}


def test_this_machine_is_in_order_and_nothing_is_left_behind(capsys, place):
    assert it.doctor(json=True) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"python", "torch", "lightning", "ray", "threads", "disk", "memory", "job list", "cluster"} <= set(rows)
    assert all(row["found"] for row in rows.values())
    assert all(row["mend"] for row in rows.values() if row["verdict"] != "ok")
    assert not list(place.iterdir())


def test_a_failure_is_the_exit_code_and_a_warning_is_not(monkeypatch, capsys):
    monkeypatch.setattr(it, "CHECKS", (lambda: iter([Row("x", "warn", "[so so]", "mend it")]),))
    assert it.doctor() == 0
    output = capsys.readouterr().out
    assert "[so so]" in output
    assert "mend it" in output
    monkeypatch.setattr(it, "CHECKS", (lambda: iter([Row("x", "ok", "a"), Row("y", "fail", "b")]),))
    assert it.doctor() == 1


def test_a_check_that_breaks_is_a_finding_and_the_rest_continues(monkeypatch):
    def _broken_one():
        raise RuntimeError("boom")

    monkeypatch.setattr(it, "CHECKS", (_broken_one, it.python))
    first, second = it.examine()
    assert (first.name, first.verdict) == ("broken one", "fail")
    assert "boom" in first.found
    assert second.name == "python"


def test_a_package_that_is_missing_or_broken(monkeypatch, place):
    (place / "broken_package.py").write_text("raise OSError('libfoo.so: cannot open')")
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setattr(it, "PACKAGES", ("no_such_package", "broken_package", "rich"))
    missing, broken, good = it.packages()
    assert missing.verdict == broken.verdict == "fail"
    assert "no_such_package" in missing.mend
    assert "libfoo.so" in broken.found
    assert good.verdict == "ok"


@pytest.mark.parametrize(("free", "verdict"), [(10, "ok"), (2, "warn"), (0.1, "fail")])
def test_disk(monkeypatch, free, verdict):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, free * GIB))
    assert verdicts(it.disk) == {"disk": verdict}


def test_folders_that_cannot_be_written(monkeypatch):
    monkeypatch.setattr(it, "_writable", lambda path: False)
    assert verdicts(it.disk) == {"disk": "fail"}
    assert verdicts(it.data) == {"data": "fail"}
    assert verdicts(it.job_list) == {"job list": "fail"}


def test_a_file_where_a_folder_should_be_is_not_writable(place):
    (place / "runs").write_text("x")
    assert verdicts(it.disk) == {"disk": "fail"}


def test_little_shared_memory(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 64 * 2**20))
    found = {row.name: row for row in it.memory()}
    if "shared memory" not in found:
        pytest.skip("this system has no /dev/shm")
    assert "--shm-size" in found["shared memory"].mend


def test_more_threads_than_cores(monkeypatch):
    import torch

    monkeypatch.setattr(torch, "get_num_threads", lambda: 10_000)
    assert verdicts(it.threads) == {"threads": "warn"}


def test_a_damaged_job_list(place):
    (place / "state/jobs").mkdir(parents=True)
    (place / "state/jobs/x.json").write_text("{")
    [row] = it.job_list()
    assert row.verdict == "warn"
    assert "x.json" in row.found


def test_clusters(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    assert verdicts(it.cluster) == {"cluster": "fail"}
    monkeypatch.setenv("RAY_ADDRESS", heads.open_head())
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    [row] = it.cluster()
    assert row.verdict == "warn"
    assert "1 nodes, 2 CPU cores, 0 GPUs, no token" in row.found


def test_ray_that_does_not_start(monkeypatch, place):
    monkeypatch.setattr(it.sys, "executable", "/bin/false")
    assert verdicts(it.ray_starts) == {"ray starts": "fail"}


def test_profiles_are_listed_and_a_broken_file_is_named(place, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place / "config"))
    [row] = it.profiles()
    assert (row.verdict, row.found) == ("ok", "none")
    approving.write("lab: {on: slurm}\nbig: {on: ray}", place / "clusters.yaml")
    assert [row.found for row in it.profiles()] == ["lab, big"]
    approving.write("lab: [", place / "clusters.yaml")
    [row] = it.profiles()
    assert row.verdict == "fail" and "clusters.yaml" in row.found and row.mend
    (place / "clusters.yaml").write_text("lab: {on: local, python: ./theirs}")
    [none, row] = it.profiles()
    assert none.found == "none" and row.verdict == "warn" and "reprise trust" in row.mend
