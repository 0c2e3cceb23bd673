"""The verbs about jobs: each finds what was submitted, says how it stands in the same words everywhere, and forgets nothing."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cluster import store
from cluster.job import History, State
from ray_jobs.errors import UsageError
from ray_jobs.jobs import verbs, view
from ray_jobs.jobs.submit import submit
from ray_jobs.jobs.trust import trust
from tests.cluster import approving, heads
from tests.ray_jobs.jobs import shelf

RECIPE = "ddpm_mixture2d"


def sent(*words: str) -> str:
    """The id of `reprise submit words... train R`."""
    before = {e.id for e in store.entries()[0]}
    assert submit([*words, "train", RECIPE]) == 0
    [new] = {e.id for e in store.entries()[0]} - before
    return new


def test_a_job_is_found_again_until_its_end(echo, capsys, ended, only):
    argv = ["train", RECIPE, "--density", "it's $(here)'"]
    assert submit(["--python", echo, *argv]) == 0
    assert only().name == RECIPE
    assert only().id in capsys.readouterr().out
    assert verbs.logs(only().id, follow=True) == 0
    assert json.loads(capsys.readouterr().out) == ["-P", "-m", "ray_jobs.cli", *argv]
    assert verbs.status(only().id) == 0
    output = capsys.readouterr().out
    assert "succeeded" in output and "exit code 0" in output and "1 node: 1 CPUs, 0 GPUs" in output
    assert verbs.jobs() == 0
    listed = capsys.readouterr().out
    assert only().id in listed and f"train {RECIPE}" in listed


def test_a_failed_job_says_how_and_what_to_do(echo, capsys, ended, only):
    submit(["--python", echo, "train", RECIPE, "--density", "fail"])
    assert verbs.logs(only().id, follow=True) == 1
    assert ended(only().id) == "failed"
    capsys.readouterr()
    verbs.status(only().id)
    output = capsys.readouterr().out
    assert "exit code 3" in output and f"reprise resubmit {only().id}" in output
    assert only().why == "exit code 3" and only().ended > only().submitted
    verbs.cancel(only().id)
    assert "already failed" in capsys.readouterr().out


def test_cancel(sleeper, ended, only):
    submit(["--python", sleeper, "train", RECIPE])
    assert verbs.cancel(only().id) == 0
    assert ended(only().id) == "cancelled"
    assert "SIGTERM" in only().why


def test_status_tells_all_that_is_recorded_and_no_secret(capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "s3cret")
    words = ["--on", "shelf", "--nodes", "2", "--memory", "4GiB", "--labels", "a b", "--labels", "PASSWORD=s3cret"]
    id = sent(*words, "--env", "HF_TOKEN PLAIN='x y'")
    shelf.move(id, State.running, History(attempts=3, started=1e9))
    verbs.status(id)
    output = capsys.readouterr().out
    for part in ("running", "on shelf", "2 nodes: 1 CPUs, 0 GPUs, 4 GiB of each", "'a b'", "PASSWORD=***", "'PLAIN=x y'",
                 "HF_TOKEN=***", "3 attempts", "2001-09-0", "Reprise "):  # fmt: skip
        assert part in output, part
    assert all("s3cret" not in f.read_text() for f in store.jobs_folder().glob("*.json"))
    assert "s3cret" not in output


def test_status_shows_how_far_the_run_is(capsys):
    run = Path("runs/mine")
    submit(["--on", "shelf", "train", RECIPE, "--out", str(run)])
    run.mkdir(parents=True)
    (run / "status.json").write_text('{"state": "running", "step": 30, "steps": 500}')
    [entry] = store.entries()[0]
    assert entry.runs == (str(run.absolute()),)
    verbs.status(entry.id)
    assert "step 30 of 500" in capsys.readouterr().out


def test_a_run_without_out_is_found_by_what_it_says_of_itself(capsys):
    id = sent("--on", "shelf")
    for name, command in (
        (f"{RECIPE}-seed0-1", f"reprise train {RECIPE} --seed 7"),
        (f"{RECIPE}-seed0-2", f"reprise train {RECIPE}"),
    ):
        (Path("runs") / name).mkdir(parents=True)
        record = {"command": command, "started": "2099-01-01T00:00:00+00:00"}
        (Path("runs") / name / "run.json").write_text(json.dumps(record))
    assert [Path(run).name for run in verbs.runs_of(store.find(id))] == [f"{RECIPE}-seed0-2"]


@pytest.mark.parametrize("verb", [verbs.status, verbs.logs, verbs.cancel])
def test_an_unknown_job_names_the_nearest(verb):
    id = sent("--on", "shelf")
    with pytest.raises(UsageError, match=f"Did you mean '{id}'"):
        verb(id.replace("ddpm", "dpdm"))


# ---- the list


def test_the_list_is_filtered_by_state_and_backend(capsys):
    approving.write("lab: {on: shelf}")
    first, second, third = sent("--on", "shelf"), sent("--on", "lab"), sent("--on", "lab")
    shelf.move(second, State.running)
    shelf.move(third, State.running)
    capsys.readouterr()

    def shown(**asked: str) -> set[str]:
        verbs.jobs(**asked)
        out = capsys.readouterr().out
        return {id for id in (first, second, third) if id in out}

    assert shown() == shown(on="shelf") == {first, second, third}
    assert shown(state="running") == shown(on="lab") == {second, third}
    assert shown(state="pending", on="lab") == set()
    with pytest.raises(UsageError, match=r"no state 'runing'. Did you mean 'running'"):
        verbs.jobs(state="runing")
    with pytest.raises(UsageError, match=r"no backend or profile 'lap'. Did you mean 'lab'"):
        verbs.jobs(on="lap")


def test_the_list_continues_past_damage_and_silent_clusters(capsys):
    for id in ("a-1", "a-2"):
        store.write(store.Entry(id, "ray", "a", ("x",), "/", "http://127.0.0.1:1"))
    store.write(store.Entry("a-3", "ray", "a", ("x",), "/", "http://127.0.0.1:1", state="succeeded"))
    store.write(store.Entry("a-4", "moon", "a", ("x",), "/"))  # a backend of a later version
    (store.jobs_folder() / "bad.json").write_text("{")
    assert verbs.jobs() == 0
    output = capsys.readouterr()
    assert output.err.count("\n") == 1
    assert "bad.json" in output.err
    assert output.out.count("no answer") == 3
    assert output.out.count("succeeded") == 1


def test_a_cluster_that_is_slow_and_silent_is_asked_once(capsys, monkeypatch):
    monkeypatch.setattr(verbs, "PATIENCE", 0.0)
    dark = [sent("--on", "shelf", "--dark") for _ in range(3)]
    lit = sent("--on", "shelf")
    shelf.ASKED.clear()
    assert {e.id: s for e, s in verbs.rows()} == dict.fromkeys(dark, "no answer") | {lit: "pending"}
    assert len(shelf.ASKED) == 2


def test_nothing_to_list_is_said(capsys):
    verbs.jobs()
    assert "No job was submitted" in capsys.readouterr().out
    sent("--on", "shelf")
    capsys.readouterr()
    verbs.jobs(state="failed")
    assert "No job matches" in capsys.readouterr().out


def test_the_shared_folder_of_a_profile_is_looked_into(tmp_path, monkeypatch):
    approving.write(f"lab: {{on: shelf, shared: {tmp_path / 'common'}}}")
    id = sent("--on", "lab")
    assert (tmp_path / f"common/.reprise/jobs/{id}.json").exists()
    key = (tmp_path / "state/key").read_bytes()
    monkeypatch.setenv("REPRISE_STATE", str(tmp_path / "theirs"))
    approving.write(Path("clusters.yaml").read_text())
    assert [e.id for e, _ in verbs.rows()] == [id]
    assert [state for _, state in verbs.rows()] == ["not asked"]
    (tmp_path / "theirs/key").unlink()
    trust_key = tmp_path / "theirs/key"
    trust_key.write_bytes(key)
    trust_key.chmod(0o600)
    assert [state for _, state in verbs.rows()] == ["pending"]  # another machine of the same user
    approving.write("lab: [broken")
    assert verbs.rows() == []


def test_colleagues_on_shared_storage_see_the_job_too(tmp_path, monkeypatch, capsys):
    id = sent("--on", "shelf")  # whose jobs run in this very folder, on other machines
    assert Path(".reprise/jobs/.gitignore").read_text() == "*\n"
    monkeypatch.setenv("REPRISE_STATE", str(tmp_path / "theirs"))
    assert [e.id for e, _ in verbs.rows()] == [id]
    shelf.move(id, State.failed, History(why="out of memory"))
    shelf.ASKED.clear()
    verbs.status(id)  # a colleague sees what was sent, and asks no cluster that another's record names
    shown = capsys.readouterr().out
    assert "not asked" in shown and "reprise trust" in shown and not shelf.ASKED
    trust(f".reprise/jobs/{id}.json")
    verbs.status(id)  # now the colleague sees the end first
    assert not list((tmp_path / "theirs").rglob("*.json"))  # and it does not become a job of theirs
    monkeypatch.setenv("REPRISE_STATE", str(tmp_path / "state"))
    assert store.find(id, also=[Path(".reprise/jobs")]).why == "out of memory"


# ---- watching


def test_watching_without_a_terminal_prints_each_change_and_ends_with_the_jobs(capsys):
    id = sent("--on", "shelf")
    capsys.readouterr()
    turns = iter([State.pending, State.running, State.running, State.succeeded])

    def look():
        shelf.move(id, next(turns))
        return verbs.rows()

    view.watch(look, refresh=0)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1:3] for line in lines] == [[id, "pending"], [id, "running"], [id, "succeeded"]]


def in_a_terminal(*words: str) -> tuple[subprocess.Popen, list[bytes], threading.Thread]:
    """`reprise words...` with a terminal of its own, and what it shows."""
    ours, theirs = pty.openpty()
    program = [sys.executable, "-m", "ray_jobs.cli", *words]
    process = subprocess.Popen(
        program,
        stdout=theirs,
        stderr=theirs,
        stdin=theirs,
        env=os.environ | {"TERM": "xterm", "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    os.close(theirs)
    shown: list[bytes] = []

    def read() -> None:
        try:
            while piece := os.read(ours, 65536):
                shown.append(piece)
        except OSError:  # the terminal is gone
            os.close(ours)

    reader = threading.Thread(target=read)
    reader.start()
    return process, shown, reader


def test_ctrl_c_ends_the_live_view_cleanly(sleeper, only, ended):
    submit(["--python", sleeper, "train", RECIPE])
    process, shown, reader = in_a_terminal("jobs", "--watch")
    try:
        while b"running" not in b"".join(shown):
            assert process.poll() is None, shown
            reader.join(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        verbs.cancel(only().id)
    reader.join(30)
    assert b"Traceback" not in b"".join(shown)
    assert b"\x1b[?25h" in b"".join(shown)  # the cursor is back


def test_the_live_view_ends_with_the_last_job(sleeper, only, ended):
    submit(["--python", sleeper, "train", RECIPE])
    process, shown, reader = in_a_terminal("jobs", "--watch")
    try:
        while b"running" not in b"".join(shown):
            assert process.poll() is None, shown
            reader.join(0.02)
        verbs.cancel(only().id)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    reader.join(30)
    assert b"cancelled" in b"".join(shown)


def test_on_ray_from_submission_to_the_list(echo, capsys, only):
    argv = ["train", RECIPE, "--density", "two words"]
    assert submit(["--on", "ray", "--address", heads.open_head(), "--python", echo, *argv]) == 0
    assert "--out" in capsys.readouterr().err  # the copy of the folder does not last
    assert verbs.logs(only().id, follow=True) == 0
    assert json.dumps(["-P", "-m", "ray_jobs.cli", *argv]) in capsys.readouterr().out
    assert only().state == "succeeded"  # kept for when the cluster is gone
    assert only().why == "exit code 0" and only().ended >= only().started > 0


def test_nothing_heavy_is_imported():
    modules = "ray_jobs.jobs.verbs, ray_jobs.jobs.submit, ray_jobs.doctor"
    program = f"import sys, {modules}; print([m for m in ('torch', 'ray', 'lightning') if m in sys.modules])"
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env).stdout == "[]\n"
