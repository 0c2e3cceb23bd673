"""Submitting: one error lists everything wrong; arguments arrive verbatim and are recorded; a resubmitted job continues its run."""

import json
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster import store
from cluster.backends import BACKENDS, Backend
from cluster.hiding import HIDDEN
from cluster.job import Resources, State
from ray_jobs import cli
from ray_jobs.errors import UsageError
from ray_jobs.jobs import verbs
from ray_jobs.jobs.program import argv_of
from ray_jobs.jobs.resubmit import resubmit
from ray_jobs.jobs.submit import submit
from tests.ray_jobs.jobs import shelf

RECIPE = "ddpm_mixture2d"
HOSTILE = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=30) | st.sampled_from(
    [
        "$(touch pwned)",
        "`touch pwned`",
        "; touch pwned #",
        'it\'s "both"',
        "-",
        "*",
        "~",
        "\u2029",
        "\\",
        "",
        " ",
        "%s{}",
        "!!",
        "é\u2028",
    ]
)


# ---- verbatim


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(density=HOSTILE, out=HOSTILE, value=HOSTILE)
def test_hostile_settings_and_variables_arrive_verbatim(density, out, value, echo, capsys, ended, tmp_path):
    out = "runs/" + out.replace("/", "|").strip()[:20]
    argv = ["train", RECIPE, f"--density={density}", f"--out={out}"]
    words = ["--python", echo, "--env", f"ODD={shlex.quote(value)}"]
    capsys.readouterr()
    assert submit([*words, *argv]) == 0
    entry = store.entries()[0][0]
    assert ended(entry.id) == "succeeded"
    capsys.readouterr()
    verbs.logs(entry.id)
    assert json.loads(capsys.readouterr().out) == ["-P", "-m", "ray_jobs.cli", *argv]
    assert entry.command == (echo, "-P", "-m", "ray_jobs.cli", *argv) and entry.env == {"ODD": value}
    assert entry.runs == (str(Path(out).absolute()),)
    assert not list(tmp_path.rglob("pwned"))


def test_variables_reach_the_command_and_nobody_else(tmp_path, ended, only, monkeypatch, capsys):
    monkeypatch.setenv("MY_TOKEN", "s3cret")
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\nprintf "%s|%s|%s" "$MY_TOKEN" "$PLAIN" "$REPRISE_JOB" > seen.txt\n')
    script.chmod(0o755)
    submit(["--python", str(script), "--env", "MY_TOKEN PLAIN='x y'", "list"])
    assert ended(only().id) == "succeeded"
    assert Path("seen.txt").read_text() == f"s3cret|x y|{only().id}"
    assert only().env == {"MY_TOKEN": HIDDEN, "PLAIN": "x y"}
    assert "s3cret" not in "".join(f.read_text() for f in (tmp_path / "state/jobs").glob("*"))


# ---- the record


def test_the_record_says_what_was_sent_and_where(only, tmp_path):
    subprocess.run(["git", "init", "-q", "."], check=True)
    subprocess.run(
        ["git", "-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "x", "--allow-empty"], check=True
    )
    words = ["--on", "shelf", "--nodes", "2", "--gpus-per-node", "8", "--memory", "4GiB", "--slots", "3", "--fragile"]
    submit([*words, "--labels", "a b", "--labels", "c", "reproduce", "ppo_cartpole", "--seeds", "2", "--out", "r"])
    entry = only()
    assert entry.wanted == Resources(cpus=1, gpus=8, memory=4 * 2**30, nodes=2)
    assert entry.options == {"slots": 3, "fragile": True, "labels": ["a b", "c"]}
    assert argv_of(entry.command) == ("reproduce", "ppo_cartpole", "--seeds", "2", "--out", "r")
    assert entry.runs == (str(Path("r/ppo_cartpole").absolute()),)
    assert entry.workdir == str(Path.cwd()) and len(entry.commit) == 40 and entry.version
    assert verbs.launcher_of(entry) == shelf.Shelf(slots=3, fragile=True, labels=("a b", "c"))
    job, _ = shelf.KEPT[entry.id]
    assert job.resources == entry.wanted


def test_what_waits_for_tasks_of_the_same_pool_holds_no_core(monkeypatch):
    def cores(*words: str) -> float:
        return submit(list(words)) or store.entries()[0][0].wanted.cpus

    reproduce = ["reproduce", "ppo_cartpole"]
    assert cores("--on", "shelf", *reproduce) == 1
    monkeypatch.setitem(BACKENDS, "shelf", replace(BACKENDS["shelf"], pooled=True))
    assert cores("--on", "shelf", *reproduce) == 0
    assert cores("--on", "shelf", "--cpus", "2", *reproduce) == 2
    assert cores("--on", "shelf", "list") == 1


def test_a_job_that_could_not_be_recorded_is_not_sent(state):
    state.parent.joinpath("state").write_text("a file where the folder should be")
    with pytest.raises(UsageError, match=r"could not be recorded.*REPRISE_STATE"):
        submit(["--on", "shelf", "list"])
    assert shelf.KEPT == {}


def test_a_record_that_fails_after_all_names_the_job(monkeypatch):
    def full(entry, folder=None):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "write", full)
    with pytest.raises(UsageError, match=r"The job runs as list-\w+ on shelf .*No space left.*note the id"):
        submit(["--on", "shelf", "list"])
    assert len(shelf.KEPT) == 1


# ---- refused


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "nothing to submit"),
        (["jobs"], "cannot be submitted"),
        (["resubmit", "x"], "cannot be submitted"),
        (["--on", "moon", "list"], r"no backend 'moon'.*local, ray, slurm, kubernetes"),
        (["--on", "locl", "list"], r"Did you mean 'local'"),
        (["--on"], r"--on needs a value"),
        (["--name", "A B", "list"], "cannot name a job"),
        (["--memory", "lots", "list"], "not a size"),
        (["--cpus", "1e5", "list"], "CPU cores were asked for"),
        (["--cpus=-1", "list"], "--cpus must be"),
        (["--gpus", "nan", "list"], "--gpus .* takes float"),
        (["--gpus", "1", "--gpus-per-node", "2", "list"], "mean the same"),
        (["--nodes", "0", "list"], "--nodes must be a number from 1 on"),
        (["--nodes", "2", "list"], "a local job has 1"),
        (["--nodes", "1.5", "list"], "takes int"),
        (["--address", "http://h", "list"], r"submit --on local has no setting 'address'.*Allowed: .*grace"),
        (["--on", "ray", "--partition", "gpu", "list"], r"submit --on ray has no setting 'partition'.*address, grace"),
        (["--on", "shelf", "--slot", "2", "list"], "Did you mean 'slots'"),
        (["--on", "shelf", "--slots", "two", "list"], "--slots .* takes int, not 'two'"),
        (["--on", "shelf", "--slots", "0", "list"], "--slots must be at least 1"),
        (["--env", "1A=2", "list"], "cannot name a variable"),
        (["--env", "NOT_SET_ANYWHERE", "list"], "not set here"),
        (["--env", "A='x", "list"], "open quote"),
        (["--python", "/no/such/python", "list"], "no program"),
        (["--on", "ray", "--address", "http://127.0.0.1:1", "list"], "No Ray cluster answers"),
        (["--on", "ray", "--address", "ftp://x", "list"], "no address"),
        (["nonsense"], "no verb 'nonsense'"),
        (["train", "ddpm_digit"], "Did you mean 'ddpm_digits'"),
        (["train", RECIPE, "--lrr", "1"], "Did you mean 'lr'"),
        (["resume"], "is used as: reprise resume RUN"),
        (["resume", "x", "--report", "y"], "no setting 'report'"),
        (["evaluate", "--frobnicate", "3"], "no setting 'frobnicate'"),
        (["sample", "a", "b"], "is used as: reprise sample RUN"),
        (["doctor", "x"], "is used as: reprise doctor"),
        (["reproduce", RECIPE, "--seeds", "x"], "--seeds .* takes int"),
        (["train", RECIPE, "--out", "foo://x"], "foo://x cannot be used"),
        (["train", RECIPE, "--out", "http://["], "cannot be used"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_leaves_nothing(words, sentence, state):
    with pytest.raises(UsageError, match=sentence):
        submit(words)
    assert not list(state.rglob("*.json")) and shelf.KEPT == {}


def test_everything_wrong_is_said_at_once(capsys):
    Path("runs/x").mkdir(parents=True)
    Path("runs/x/run.json").write_text("{}")
    words = ["--cpus", "1e5", "--memory", "lots", "--env", "1A=2", "--name", "A B", "train", RECIPE, "--out", "runs/x"]
    assert cli.main(["submit", *words]) == 2
    output = capsys.readouterr().err
    for part in (
        "reasons are against it",
        "already holds a run",
        "not a size",
        "cannot name a variable",
        "cannot name a job",
    ):
        assert part in output, part
    assert cli.main(["submit", "--cpus", "1e5", "--gpus", "99", "train", RECIPE, "--workers", "0"]) == 2
    output = capsys.readouterr().err
    assert (
        "3 reasons" in output
        and "CPU cores" in output
        and "GPUs" in output
        and "--workers must be at least 1" in output
    )


def test_a_backend_that_is_not_installed_is_one_sentence(monkeypatch):
    monkeypatch.setitem(BACKENDS, "mars", Backend("cluster.mars:Mars"))
    with pytest.raises(UsageError, match=r"cannot be sent to mars from here: cluster.mars is not installed.*local"):
        submit(["--on", "mars", "list"])


def test_dry_run_shows_all_and_sends_nothing(echo, capsys, state):
    words = ["--dry-run", "--python", echo, "--env", "A='x y' MY_TOKEN=s3cret"]
    assert submit([*words, "train", RECIPE, "--lr", "1e-3"]) == 0
    shown = capsys.readouterr().out
    assert shlex.split(shown.splitlines()[2])[-4:] == ["train", RECIPE, "--lr", "1e-3"]
    assert "x y" in shown and "s3cret" not in shown and "no reason against it was found" in shown
    assert submit(["--dry-run", "--cpus", "1e5", "--gpus", "99", "list"]) == 1
    assert capsys.readouterr().out.count("cannot run:") == 2
    assert not state.exists()


def test_help_lists_the_options_of_the_backend(capsys):
    with pytest.raises(SystemExit) as done:
        submit(["--on", "shelf", "--help"])
    output = capsys.readouterr().out
    assert done.value.code == 0
    for part in ("--nodes", "--labels", "Stuck on, one by one.", "options of --on shelf"):
        assert part in output
    assert "--attic" not in output


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
    from ray_jobs.jobs.submit import _name

    assert _name(argv) == name


# ---- again


def failed(*words: str) -> store.Entry:
    """A job on the shelf that has failed."""
    submit(["--on", "shelf", *words])
    entry = store.entries()[0][0]
    shelf.move(entry.id, State.failed)
    return entry


def test_again_is_the_same_command_resources_and_backend(capsys):
    words = [
        "--nodes",
        "2",
        "--gpus",
        "8",
        "--memory",
        "4GiB",
        "--name",
        "mine",
        "--labels",
        "a b",
        "--python",
        "/p/python",
    ]
    old = failed(*words, "--env", "A='x y'", "reproduce", "ppo_cartpole", "--seeds", "2")
    assert resubmit([old.id]) == 0
    new = store.entries()[0][0]
    assert new.follows == old.id and new.id != old.id
    for part in ("command", "resources", "options", "on", "name", "workdir", "runs"):
        assert getattr(new, part) == getattr(old, part), part
    assert new.env == old.env | {"REPRISE_JOB": old.id}
    with pytest.raises(UsageError, match=f"{new.id} continues {old.id} already"):
        resubmit([old.id])
    shelf.move(new.id, State.failed)
    resubmit([new.id])
    assert store.entries()[0][0].env["REPRISE_JOB"] == old.id  # whose run it continues
    assert f"continues {old.id}" in capsys.readouterr().out


def test_what_is_given_now_replaces_what_was():
    old = failed("--nodes", "2", "--slots", "4", "--env", "A=1 B=2", "list")
    resubmit([old.id, "--nodes", "3", "--slots", "5", "--env", "A=9", "--labels", "x", "--labels="])
    new = store.entries()[0][0]
    assert new.wanted.nodes == 3 and new.env == {"A": "9", "B": "2", "REPRISE_JOB": old.id}
    assert new.options["slots"] == 5 and new.options["labels"] == []


def test_what_the_surroundings_decided_is_recorded(only, monkeypatch):
    monkeypatch.setattr(shelf.Shelf, "pinned", lambda self: {"board": "the one of today"}, raising=False)
    submit(["--on", "shelf", "list"])
    assert verbs.launcher_of(only()).board == "the one of today"


def test_it_runs_where_the_first_one_ran(tmp_path, monkeypatch):
    old = failed("list")
    monkeypatch.chdir(tmp_path)
    resubmit([old.id])
    assert store.entries()[0][0].workdir == old.workdir
    assert Path.cwd() == tmp_path


def test_hidden_secrets_must_be_given_again(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "s3cret")
    old = failed("--env", "HF_TOKEN", "--labels", "PASSWORD=s3cret", "list")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UsageError, match=rf"reprise resubmit {old.id} --env HF_TOKEN --labels"):
        resubmit([old.id])
    resubmit([old.id, "--env", "HF_TOKEN=other", "--labels", "PASSWORD=other"])
    job, _ = shelf.KEPT[store.entries()[0][0].id]
    shelf.move(store.entries()[0][0].id, State.failed)
    assert job.env["HF_TOKEN"] == "other"
    monkeypatch.setenv("HF_TOKEN", "third")  # passed on by its name
    resubmit([old.id, "--labels", "x"])
    job, _ = shelf.KEPT[store.entries()[0][0].id]
    assert job.env["HF_TOKEN"] == "third"


def test_a_secret_in_the_command_is_not_kept():
    store.write(
        store.Entry("a-1", "shelf", "a", ("python", "-m", "ray_jobs.cli", "list", "--token=***"), "/", state="failed")
    )
    with pytest.raises(UsageError, match="held a secret"):
        resubmit(["a-1"])


def test_again_is_refused_where_it_makes_no_sense(tmp_path):
    submit(["--on", "shelf", "list"])
    [entry] = store.entries()[0]
    with pytest.raises(UsageError, match="still pending"):
        resubmit([entry.id])
    with pytest.raises(UsageError, match="no job 'nonsense'"):
        resubmit(["nonsense"])
    with pytest.raises(UsageError, match="is used as"):
        resubmit([])
    with pytest.raises(UsageError, match="'train' is no option"):
        resubmit([entry.id, "train", "x"])
    store.write(store.Entry("gone-1", "shelf", "a", entry.command, str(tmp_path / "gone"), state="failed"))
    with pytest.raises(UsageError, match="not here any more"):
        resubmit(["gone-1"])


def test_a_cancelled_training_continues_in_its_run_folder(ended, capsys):
    run = Path("runs/x")
    size = ["--steps", "60000", "--save_every", "2000", "--eval_episodes", "2"]
    assert cli.main(["submit", "train", "ppo_cartpole", *size, "--out", str(run)]) == 0
    first = store.entries()[0][0]
    while not list(run.glob("checkpoints/*.ckpt")):
        assert not verbs.state_of(first).ended, "".join(verbs.launcher_of(first).logs(first.id, False))
    verbs.cancel(first.id)
    assert ended(first.id) == "cancelled"
    assert cli.main(["resubmit", first.id]) == 0
    second = store.entries()[0][0]
    assert argv_of(second.command) == ("resume", str(run)) and second.follows == first.id
    assert ended(second.id) == "succeeded"
    assert json.loads((run / "result.json").read_text())["step"] >= 60_000
    with pytest.raises(UsageError, match="is finished"):
        resubmit([first.id])
