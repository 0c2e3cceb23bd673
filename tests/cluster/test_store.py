"""The job list survives concurrent submissions and damage."""

import subprocess
import sys
from pathlib import Path

import pytest

from cluster import store
from cluster.job import Job, LauncherError, State

ROOT = Path(__file__).parents[2]


def entry(id: str, submitted: float = 0.0) -> store.Entry:
    return store.Entry(id, "local", "a", ("run", "--lr", "1"), "/", submitted=submitted)


def test_what_is_remembered_comes_back_newest_first_without_secrets(tmp_path):
    job = Job("a", ("run", "--hub.token=s3cret", "two words"), workdir=Path("/x"))
    first = store.remember("a-1", "ray", job, "http://h:8265", tmp_path)
    store.write(entry("a-0"), tmp_path)
    assert store.entries(tmp_path) == ([first, entry("a-0")], [])
    assert "s3cret" not in (tmp_path / "a-1.json").read_text()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"id": "x"}', "\0\0\0", '{"id": "bad", "on": 1, "extra": 2}'])
def test_damage_is_skipped_and_named(tmp_path, text):
    store.write(entry("a-1"), tmp_path)
    (tmp_path / "bad.json").write_text(text)
    assert store.entries(tmp_path) == ([entry("a-1")], ["bad.json"])


def test_concurrent_submissions_all_arrive(tmp_path):
    program = (
        "import sys; from pathlib import Path; from cluster import store; from cluster.job import Job\n"
        f"for i in range(20): store.remember(f'a-{{sys.argv[1]}}-{{i}}', 'local', Job('a', ('x',)), '', Path({str(tmp_path)!r}))"
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


def test_where_the_list_lies(monkeypatch, tmp_path):
    monkeypatch.delenv("REPRISE_STATE", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert store.jobs_folder() == tmp_path / "reprise/jobs"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")  # the XDG specification: a relative path is ignored
    assert store.jobs_folder() == Path.home() / ".local/state/reprise/jobs"
    monkeypatch.setenv("REPRISE_STATE", str(tmp_path / "own"))
    assert store.jobs_folder() == tmp_path / "own/jobs"
