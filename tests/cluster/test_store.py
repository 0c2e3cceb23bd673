"""The job list survives concurrent submissions and damage."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cluster import store
from cluster.job import History, Job, LauncherError, Resources, State

ROOT = Path(__file__).parents[2]


def entry(id: str, submitted: float = 0.0) -> store.Entry:
    return store.Entry(id, "local", "a", ("run", "--lr", "1"), "/", submitted=submitted)


def test_what_is_remembered_comes_back_newest_first_without_secrets(tmp_path):
    wanted, env = Resources(2, 8, 2**30, 4), {"A": "1", "HF_TOKEN": "s3cret"}
    job = Job("a", ("run", "--hub.token=s3cret", "two words"), wanted, env, workdir=Path("/x"))
    options = {"partition": "gpu", "setup": ["export API_KEY=s3cret"], "secrets": ["HF_TOKEN=hub/key"]}
    first = store.entry_of("a-1", "ray", job, address="http://h:8265", options=options, runs=("/r",))
    store.write(first, tmp_path)
    store.write(entry("a-0"), tmp_path)
    assert store.entries(tmp_path) == ([first, entry("a-0")], [])
    assert "s3cret" not in (tmp_path / "a-1.json").read_text()
    assert first.wanted == wanted
    assert first.env == {"A": "1", "HF_TOKEN": "***"}
    assert first.options["setup"] == ["export API_KEY=***"] and first.options["secrets"] == ["HF_TOKEN=hub/key"]


def test_records_of_older_and_later_versions_load(tmp_path):
    old = {
        "id": "a-1",
        "on": "ray",
        "name": "a",
        "command": ["x"],
        "workdir": "/",
        "address": "http://h",
        "submitted": 1.0,
    }
    (tmp_path / "a-1.json").write_text(json.dumps(old | {"state": ""}))
    (tmp_path / "a-2.json").write_text(json.dumps(old | {"id": "a-2", "submitted": 2.0, "later": {"field": 1}}))
    [later, first], damaged = store.entries(tmp_path)
    assert damaged == [] and later.id == "a-2"
    assert first.wanted == Resources() and first.attempts == 1 and first.runs == ()


BAD = {"id": "bad", "on": "local", "name": "a", "command": ["x"], "workdir": "/"}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"id": "x"}', "\0\0\0", '{"id": "bad", "on": 1, "extra": 2}']
    + [
        json.dumps(BAD | wrong)
        for wrong in ({"command": "x"}, {"state": "odd"}, {"env": []}, {"submitted": "now"}, {"why": 1})
    ],
)
def test_damage_is_skipped_and_named(tmp_path, text):
    store.write(entry("a-1"), tmp_path)
    (tmp_path / "bad.json").write_text(text)
    assert store.entries(tmp_path) == ([entry("a-1")], ["bad.json"])


def test_concurrent_submissions_all_arrive(tmp_path):
    program = (
        "import sys; from pathlib import Path; from cluster import store; from cluster.job import Job\n"
        f"for i in range(20): store.write(store.entry_of(f'a-{{sys.argv[1]}}-{{i}}', 'local', Job('a', ('x',))), Path({str(tmp_path)!r}))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(n)], cwd=ROOT) for n in range(4)]
    damaged = []
    while any(w.poll() is None for w in writers):
        damaged += store.entries(tmp_path)[1]  # a reader never sees half an entry
    assert [w.returncode for w in writers] == [0] * 4
    assert damaged == []
    assert len(store.entries(tmp_path)[0]) == 80


def test_find_takes_a_beginning_and_names_the_nearest(tmp_path):
    for id in ("ppo-12ab", "ppo-12cd", "ddpm-77"):
        store.write(entry(id), tmp_path)
    assert store.find("ddpm", tmp_path).id == "ddpm-77"
    assert store.find("ppo-12a", tmp_path).id == "ppo-12ab"
    with pytest.raises(LauncherError, match=r"Several.*ppo-12"):
        store.find("ppo", tmp_path)
    with pytest.raises(LauncherError, match="Did you mean 'ddpm-77'"):
        store.find("dpdm-77", tmp_path)
    with pytest.raises(LauncherError):
        store.find("", tmp_path)


def test_only_final_states_are_kept(tmp_path):
    store.write(entry("a-1"), tmp_path)
    store.seen(entry("a-1"), State.running, tmp_path)
    assert store.find("a-1", tmp_path).state == ""
    store.seen(entry("a-1"), State.failed, tmp_path)
    assert store.find("a-1", tmp_path).state == "failed"


def test_what_a_place_tells_is_kept_and_a_final_state_stays(tmp_path):
    store.write(entry("a-1"), tmp_path)
    stale = store.find("a-1", tmp_path)
    store.seen(stale, State.failed, tmp_path, History(attempts=3, started=1.0, ended=2.0, why="exit code 3"))
    store.seen(stale, State.running, tmp_path, History(attempts=2))  # who looked before, and writes after
    known = store.find("a-1", tmp_path)
    assert (known.state, known.attempts, known.started, known.ended, known.why) == (
        "failed",
        3,
        1.0,
        2.0,
        "exit code 3",
    )


def test_a_job_is_recorded_on_shared_storage_too(tmp_path):
    ours, theirs, shared = tmp_path / "ours", tmp_path / "theirs", tmp_path / "shared"
    job = replace(entry("a-1"), shared=str(shared))
    store.write(job, ours)
    assert store.entries(theirs, [shared]) == ([job], [])
    store.seen(job, State.failed, theirs)
    assert not theirs.exists() or not list(theirs.glob("*.json"))
    assert [e.state for e in store.entries(ours)[0]] == [""]
    assert [e.state for e in store.entries(ours, [shared])[0]] == [
        "failed"
    ]  # of two records, the one that knows the end


def test_concurrent_looks_at_one_job_leave_a_whole_record(tmp_path):
    store.write(entry("a-1"), tmp_path)
    program = (
        "import sys; from pathlib import Path; from cluster import store; from cluster.job import History, State\n"
        f"folder = Path({str(tmp_path)!r}); entry = store.find('a-1', folder)\n"
        "state = State.failed if sys.argv[1] == '0' else State.running\n"
        "for i in range(1, 40): store.seen(entry, state, folder, History(attempts=i))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(n)], cwd=ROOT) for n in range(3)]
    while any(w.poll() is None for w in writers):
        assert store.entries(tmp_path)[1] == []
    assert [w.returncode for w in writers] == [0] * 3
    assert store.find("a-1", tmp_path).state == "failed"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    store.write(entry("a-1"), tmp_path)
    real = os.fsync

    def full(descriptor):
        with open("/dev/full", "wb", buffering=0) as disk:
            disk.write(b"x")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        store.write(entry("a-2"), tmp_path)
    assert store.seen(store.find("a-1", tmp_path), State.failed, tmp_path).state == "failed"  # shown all the same
    assert [e.id for e in store.entries(tmp_path)[0]] == ["a-1"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "a-1.json"]


def test_a_damaged_record_is_named_when_it_is_asked_for(tmp_path):
    (tmp_path / "a-1.json").write_text("{")
    with pytest.raises(LauncherError, match=r"record of 'a-1' .* is damaged"):
        store.find("a-1", tmp_path)


def test_where_the_list_lies(monkeypatch, tmp_path):
    monkeypatch.delenv("REPRISE_STATE", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert store.jobs_folder() == tmp_path / "reprise/jobs"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")  # the XDG specification: a relative path is ignored
    assert store.jobs_folder() == Path.home() / ".local/state/reprise/jobs"
    monkeypatch.setenv("REPRISE_STATE", str(tmp_path / "own"))
    assert store.jobs_folder() == tmp_path / "own/jobs"
