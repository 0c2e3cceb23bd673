"""The verbs about jobs: refused before anything is sent, sent verbatim, remembered, and found again."""

import json
import shlex
import subprocess
import sys
import time

import pytest

from cluster import store
from ray_jobs import jobs_cli
from ray_jobs.recipe import UsageError
from tests.cluster import heads


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRISE_STATE", str(tmp_path / "state"))
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "state"


@pytest.fixture
def echo(tmp_path):
    """An 'interpreter' that prints the command it is given, whatever `-m ray_jobs.cli` would do."""
    script = tmp_path / "echo"
    script.write_text(
        f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\nsys.exit('fail' in sys.argv)\n"
    )
    script.chmod(0o755)
    return str(script)


def wait(id: str) -> str:
    deadline = time.monotonic() + 30
    while not (found := jobs_cli._state(store.find(id))).ended:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found.value


def test_the_very_same_command_runs_and_is_found_again(echo, capsys):
    argv = ["train", "ddpm_digits", "--lr", "1e-3", "--note", "it's $(here)\n'"]
    assert jobs_cli.submit(argv, python=echo) == 0
    [entry] = store.entries()[0]
    assert entry.name == "ddpm_digits"
    assert entry.id in capsys.readouterr().out
    assert jobs_cli.logs(entry.id, follow=True) == 0
    assert json.loads(capsys.readouterr().out) == ["-m", "ray_jobs.cli", *argv]
    assert jobs_cli.status(entry.id) == 0
    assert "succeeded" in capsys.readouterr().out
    assert jobs_cli.jobs() == 0
    listed = capsys.readouterr().out
    assert entry.id in listed
    assert "train ddpm_digits" in listed


def test_a_failed_job_says_so(echo, capsys):
    jobs_cli.submit(["train", "fail"], python=echo)
    [entry] = store.entries()[0]
    assert jobs_cli.logs(entry.id, follow=True) == 1
    assert wait(entry.id) == "failed"
    capsys.readouterr()
    jobs_cli.cancel(entry.id)
    assert "already failed" in capsys.readouterr().out


def test_cancel(tmp_path, capsys):
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 600\n")
    sleeper.chmod(0o755)
    jobs_cli.submit(["train", "x"], python=str(sleeper))
    [entry] = store.entries()[0]
    assert jobs_cli.cancel(entry.id) == 0
    assert wait(entry.id) == "cancelled"


def test_the_command_is_checked_before_any_place_is_asked():
    def refuse(argv):
        raise UsageError(f"no {argv[1]}")

    with pytest.raises(UsageError, match="no nonsense"):
        jobs_cli.submit(["train", "nonsense"], refuse, on="ray", address="http://127.0.0.1:1")
    assert store.entries() == ([], [])


@pytest.mark.parametrize(
    ("argv", "options", "sentence"),
    [
        ([], {}, "nothing to submit"),
        (["jobs"], {}, "cannot be submitted"),
        (["list"], {"on": "moon"}, "--on local or ray"),
        (["list"], {"name": "A B"}, "cannot name a job"),
        (["list"], {"memory": "lots"}, "not a size"),
        (["list"], {"cpus": 1e5}, "CPU cores were asked for"),
        (["list"], {"cpus": -1}, "--cpus must be"),
        (["list"], {"gpus": float("nan")}, "--gpus must be"),
        (["list"], {"address": "http://h"}, "has no --address"),
        (["list"], {"env": "1A=2"}, "cannot name a variable"),
        (["list"], {"env": "NOT_SET_ANYWHERE"}, "not set here"),
        (["list"], {"env": "A='x"}, "open quote"),
        (["list"], {"python": "/no/such/python"}, "no program"),
        (["list"], {"on": "ray", "address": "http://127.0.0.1:1"}, "No Ray cluster answers"),
        (["list"], {"on": "ray", "address": "ftp://x"}, "no address"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_leaves_nothing(argv, options, sentence, state):
    with pytest.raises(UsageError, match=sentence):
        jobs_cli.submit(argv, **options)
    assert not list(state.rglob("*.json"))


def test_dry_run_shows_all_and_sends_nothing(echo, capsys, state):
    env = "A='x y' MY_TOKEN=s3cret"
    assert jobs_cli.submit(["train", "r", "--lr", "1"], dry_run=True, python=echo, env=env) == 0
    shown = capsys.readouterr().out
    assert shlex.split(shown.splitlines()[2])[-4:] == ["train", "r", "--lr", "1"]
    assert "x y" in shown
    assert "s3cret" not in shown
    assert jobs_cli.submit(["list"], dry_run=True, cpus=1e5, gpus=99) == 1
    assert capsys.readouterr().out.count("cannot run:") == 2
    assert not list(state.rglob("*"))


def test_variables_are_read_as_a_shell_would(monkeypatch):
    monkeypatch.setenv("MINE", "m")
    assert jobs_cli.variables("A=1 B='x y' MINE C= D=a=b") == {"A": "1", "B": "x y", "MINE": "m", "C": "", "D": "a=b"}


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["train", "ddpm_digits"], "ddpm_digits"),
        (["resume", "runs/My Run"], "my-run"),
        (["train", "lab.recipes.mine"], "mine"),
        (["demo"], "demo"),
        (["report", "--out", "x"], "report"),
        (["evaluate", "///"], "job"),
    ],
)
def test_jobs_get_a_fitting_name(argv, name):
    assert jobs_cli._name(argv) == name


@pytest.mark.parametrize("verb", [jobs_cli.status, jobs_cli.logs, jobs_cli.cancel])
def test_an_unknown_job_names_the_nearest(verb, echo):
    jobs_cli.submit(["train", "ddpm"], python=echo)
    id = store.entries()[0][0].id
    with pytest.raises(UsageError, match=f"Did you mean '{id}'"):
        verb(id.replace("ddpm", "dpdm"))
    wait(id)


def test_the_list_goes_on_past_damage_and_silent_clusters(capsys, monkeypatch):
    asked, ask = [], jobs_cli._state
    monkeypatch.setattr(jobs_cli, "_state", lambda entry: asked.append(entry.id) or ask(entry))
    for id in ("a-1", "a-2"):
        store.write(store.Entry(id, "ray", "a", ("x",), "/", "http://127.0.0.1:1"))
    store.write(store.Entry("a-3", "ray", "a", ("x",), "/", "http://127.0.0.1:1", state="succeeded"))
    (store.jobs_folder() / "bad.json").write_text("{")
    assert jobs_cli.jobs() == 0
    told = capsys.readouterr()
    assert told.err.count("\n") == 1
    assert "bad.json" in told.err
    assert told.out.count("no answer") == 2
    assert sorted(asked)[1:] == ["a-3"]  # the silent cluster only once
    assert told.out.count("succeeded") == 1


def test_on_ray_from_submission_to_the_list(echo, capsys):
    argv = ["train", "ddpm_digits", "--note", "two words"]
    assert jobs_cli.submit(argv, on="ray", address=heads.open_head(), python=echo) == 0
    assert "--out" in capsys.readouterr().out  # the copy of the folder does not last
    [entry] = store.entries()[0]
    assert jobs_cli.logs(entry.id, follow=True) == 0
    assert json.dumps(["-m", "ray_jobs.cli", *argv]) in capsys.readouterr().out
    assert store.find(entry.id).state == "succeeded"  # kept for when the cluster is gone


def test_nothing_heavy_is_imported():
    program = "import sys, ray_jobs.jobs_cli, ray_jobs.doctor; print([m for m in ('torch', 'ray', 'lightning') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"
