"""A folder that someone else filled: no verb about jobs runs a program of theirs, sends a token, or writes where they point."""

import http.server
import json
import os
import threading
from pathlib import Path

import pytest

from cluster import store
from cluster.job import State
from cluster.trust import seal
from ray_jobs import cli
from ray_jobs.errors import printable
from ray_jobs.jobs import verbs
from tests.cluster import approving
from tests.ray_jobs.jobs import shelf

VERBS = (
    ["jobs"],
    ["status", "x-1"],
    ["logs", "x-1"],
    ["cancel", "x-1"],
    ["resubmit", "x-1"],
    ["jobs", "--watch"],
    ["doctor"],
)
COMMAND = ["python", "-m", "ray_jobs.cli", "list"]


@pytest.fixture
def mark(tmp_path):
    """A file that exists once a payload has run."""
    return tmp_path / "mark"


@pytest.fixture
def program(tmp_path, mark):
    """A program that leaves the mark."""
    path = tmp_path / "program"
    path.write_text(f"#!/bin/sh\ntouch {mark}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def kubeconfig(state, program):
    """A kubeconfig that runs the program to log in, as those of the clouds do."""
    path = state.parent / "project/kube.yaml"
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": str(program.absolute()),
        "interactiveMode": "Never",
    }
    content = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "k", "cluster": {"server": "http://127.0.0.1:9"}}],
        "users": [{"name": "u", "user": {"exec": plugin}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
    }  # fmt: skip
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def server():
    """The address of a server of theirs, and the headers of each request that it got."""
    got = []

    class Ear(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            got.append(dict(self.headers))
            self.send_error(404)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Ear) as ear:
        thread = threading.Thread(target=ear.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{ear.server_port}", got
        ear.shutdown()
        thread.join()


def record(**fields):
    """A record of theirs in this folder."""
    content = {"id": "x-1", "on": "kubernetes", "name": "x", "command": COMMAND, "workdir": str(Path.cwd())} | fields
    path = Path(".reprise/jobs") / f"{content['id']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
@pytest.mark.parametrize("ended", ["", "failed"])
def test_a_record_runs_nothing(words, ended, mark, kubeconfig, capsys):
    record(options={"kubeconfig": str(kubeconfig.absolute()), "context": "c", "namespace": "n"}, state=ended)
    code = cli.main(words)
    shown = capsys.readouterr()
    assert not mark.exists()
    if words[0] in ("logs", "resubmit") or (words[0] == "cancel" and not ended):
        assert code == 2 and "reprise trust" in shown.err and shown.err.count("\n") == 1
    elif words[0] in ("jobs", "status"):
        assert code == 0 and "x-1" in shown.out and (ended or "not asked") in shown.out


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_a_record_gets_no_token(words, server, monkeypatch, capsys):
    address, got = server
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "t0ken")
    record(on="ray", address=address)
    record(id="x-12", on="ray", options={"address": address})
    cli.main(words)
    assert got == [] and "t0ken" not in capsys.readouterr().out


def test_a_record_that_is_approved_is_used_until_it_changes(mark, kubeconfig, capsys):
    path = record(options={"kubeconfig": str(kubeconfig.absolute()), "context": "c", "namespace": "n"})
    assert cli.main(["trust", str(path)]) == 0
    assert not mark.exists()
    cli.main(["status", "x-1"])
    assert mark.exists()  # the payload works
    mark.unlink()
    record(options={"kubeconfig": str(kubeconfig.absolute()), "context": "c", "namespace": "other"})
    cli.main(["status", "x-1"])
    assert not mark.exists() and "not asked" in capsys.readouterr().out


def test_a_seal_is_of_this_user_and_of_what_was_sent(monkeypatch, tmp_path):
    path = record(on="shelf")
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"seal": seal(content)}))
    found = lambda: store.find("x-1", also=[Path(".reprise/jobs")]).foreign  # noqa: E731
    assert found() == ""
    path.write_text(json.dumps(content | {"seal": seal(content), "state": "failed", "why": "x"}))
    assert found() == ""  # how it went may be observed by others
    path.write_text(json.dumps(content | {"seal": seal(content), "on": "ray"}))
    assert found() != ""
    for odd in ("", None, 1, "0" * 64, ["x"]):
        path.write_text(json.dumps(content | {"seal": odd}))
        assert found() != ""
    mine = json.dumps(content | {"seal": seal(content)})
    monkeypatch.setenv("REPRISE_STATE", str(tmp_path / "another"))
    path.write_text(mine)
    assert found() != ""
    assert (tmp_path / "state/key").stat().st_mode & 0o777 == 0o600


def test_a_record_of_theirs_does_not_replace_ours(kubeconfig, mark):
    store.write(store.Entry("x-1", "shelf", "x", ("x",), "/"))
    shelf.KEPT["x-1"] = (None, State.running)
    record(state="succeeded", options={"kubeconfig": str(kubeconfig.absolute())}, submitted=9e9)
    [(entry, state)] = verbs.rows()
    assert (entry.on, entry.foreign, state) == ("shelf", "", "running")
    assert not mark.exists()


# ---- profiles


def test_profiles_of_a_project_are_not_used_before_they_are_approved(mark, kubeconfig, program, capsys):
    Path("clusters.yaml").write_text(
        f"lab: {{on: kubernetes, kubeconfig: kube.yaml, image: 'x:1', namespace: n}}\nlocal: {{python: {program}}}\n"
    )
    for words in (["--on", "lab", "--dry-run"], ["--on", "lab"], ["--dry-run"], [], ["--on", "local"], ["--on", "lap"]):
        assert cli.main(["submit", *words, "list"]) == 2
        said = capsys.readouterr().err
        assert "reprise trust" in said and said.count("\n") == 1
    assert not mark.exists() and store.entries() == ([], [])
    assert cli.main(["trust"]) == 0
    assert "lab, local" in capsys.readouterr().out
    cli.main(["submit", "--on", "lab", "--dry-run", "list"])
    assert mark.exists()  # the payload works


@pytest.mark.parametrize("changed", ["clusters.yaml", "kube.yaml"])
def test_a_file_that_changed_is_asked_about_again(changed, mark, kubeconfig, capsys):
    approving.write("lab: {on: kubernetes, kubeconfig: kube.yaml, image: 'x:1', namespace: n}\n")
    Path(changed).write_text(Path(changed).read_text() + "\n")
    assert cli.main(["submit", "--on", "lab", "--dry-run", "list"]) == 2
    assert "changed since you approved it" in capsys.readouterr().err
    assert not mark.exists()


def test_an_approval_is_of_a_path_and_the_users_own(tmp_path, monkeypatch):
    approving.write("lab: {on: shelf}")
    other = tmp_path / "other"
    other.mkdir()
    (other / "clusters.yaml").write_text("lab: {on: shelf}")
    monkeypatch.chdir(other)
    assert cli.main(["submit", "--on", "lab", "list"]) == 2
    approvals = tmp_path / "state/approved"
    assert approvals.stat().st_mode & 0o777 == 0o600
    monkeypatch.chdir(tmp_path / "project")
    assert cli.main(["submit", "--on", "lab", "list"]) == 0
    approvals.chmod(0o666)  # anyone could have written it
    assert cli.main(["submit", "--on", "lab", "list"]) == 2


@pytest.mark.parametrize("name", ["nowhere.yaml", ".reprise/jobs/none.json", "bad.json", "bad.yaml"])
def test_what_cannot_be_approved(name, capsys):
    Path("bad.json").write_text("[" * 100_000)
    Path("bad.yaml").write_text("lab: [")
    assert cli.main(["trust", name]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_backends_work_in_a_folder_with_profiles_of_others(capsys):
    Path("clusters.yaml").write_text("lab: {on: shelf}\nbroken: [\n")
    assert cli.main(["submit", "--on", "shelf", "list"]) == 0


# ---- records that are odd


ODD = {
    "deep": "[" * 100_000, "bytes": b"\xff\xfe\x00", "number": '{"id": "number", "submitted": ' + "9" * 5000 + "}",
    "long": " " * 2**21, "brackets": "[]", "empty": "",
}  # fmt: skip
FIELDS = {
    "late": {"submitted": 1e300}, "nan": {"submitted": float("nan")}, "huge": {"attempts": 10**400}, "negative": {"started": -1e18},
    "resources": {"resources": {"cpus": "many"}}, "unknown": {"resources": {"legs": 4}}, "env": {"env": {"A": 1}},
    "options": {"options": {"labels": {"a": 1}}}, "none": {"options": {"board": None}}, "version": {"version": 3},
    "command": {"command": [1]}, "runs": {"runs": "x"}, "commit": {"commit": []}, "on": {"on": {}},
}  # fmt: skip


@pytest.mark.parametrize("where", ["own", "shared"])
def test_records_that_cannot_be_read_hide_no_others(where, capsys, monkeypatch, tmp_path):
    assert cli.main(["submit", "--on", "shelf", "list"]) == 0
    [entry] = store.entries()[0]
    folder = store.jobs_folder() if where == "own" else Path(".reprise/jobs")
    for name, content in ODD.items():
        (folder / f"{name}.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    for name, fields in FIELDS.items():
        (folder / f"{name}.json").write_text(
            json.dumps({"id": name, "on": "shelf", "name": "a", "command": COMMAND, "workdir": "/"} | fields)
        )
    os.mkfifo(folder / "pipe.json")
    (folder / "zero.json").symlink_to("/dev/zero")
    (folder / "folder.json").mkdir()
    (folder / "line\nbreak\x1b[2J.json").write_text("{}")
    capsys.readouterr()
    for words in (["jobs"], ["status", entry.id]):
        assert cli.main(words) == 0
        shown = capsys.readouterr()
        assert entry.id in shown.out and "\x1b[2J" not in shown.err
    for name in (*ODD, *FIELDS):
        assert cli.main(["status", name]) == 2


@pytest.mark.parametrize(
    "command",
    [["python", "-m", "ray_jobs.cli", "train"], ["python", "-m", "ray_jobs.cli", "train", "/**/x"], ["x"], []],
)
def test_commands_that_nobody_sent(command, capsys):
    record(command=command, workdir="/", state="failed")
    store.write(store.Entry("y-1", "shelf", "y", tuple(command), str(Path.cwd()), state="failed"))
    for words in (["jobs"], ["status", "x-1"], ["status", "y-1"]):
        assert cli.main(words) == 0
    assert cli.main(["resubmit", "y-1"]) == 2


NASTY = "\x1b[2J\x1b]0;owned\x07\r\n\x9b31m\u202e\ud800[bold]x[/bold]\x00"


@pytest.mark.parametrize("words", [["jobs"], ["status", "x-1"], ["jobs", "--watch"], ["logs", "x-1"]])
def test_control_characters_of_a_record_reach_no_terminal(words, capsys):
    record(
        on=f"shelf{NASTY}", name=NASTY, command=[*COMMAND, NASTY], address=NASTY, profile=NASTY, version=NASTY, commit=NASTY, follows=NASTY,
        why=NASTY, env={f"A{NASTY}": NASTY}, options={f"b{NASTY}": NASTY}, runs=[NASTY], state="failed", workdir=NASTY,
    )  # fmt: skip
    cli.main(words)
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert not set("\x1b\x07\r\x9b\u202e\ud800\x00") & set(text)
        assert all("owned" not in line or len(line) > 20 for line in text.splitlines())
    if words[0] != "logs":
        assert "[bold]x[/bold]" in shown.out


def test_what_is_printable():
    assert printable("ä 猫 🙂 \xa0x") == "ä 猫 🙂 \xa0x"
    assert printable("a\nb\tc\x1b[1m") == "a\\nb\\tc\\x1b[1m"
    assert printable("a\nb\tc\x1b[1m", lines=True) == "a\nb\tc\\x1b[1m"
    assert printable("\u202e\u200b\u2028\ud800") == "\\u202e\\u200b\\u2028\\ud800"


# ---- links


@pytest.mark.parametrize("name", [".gitignore", ".lock"])
def test_links_in_the_folder_of_records_are_not_followed(name, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    Path(".reprise/jobs").mkdir(parents=True)
    (Path(".reprise/jobs") / name).symlink_to(precious)
    assert cli.main(["submit", "--on", "shelf", "list"]) == 0
    [entry] = store.entries()[0]
    shelf.move(entry.id, State.failed)
    assert cli.main(["status", entry.id]) == 0
    assert precious.read_text() == "mine"
    assert store.entries()[0][0].state == "failed"
