"""Local jobs outlive their submitter, end when they are cancelled, and are lost where their end is not known."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import supervisor
from cluster.job import Job, LauncherError, Resources, State
from cluster.local import Local
from tests.cluster.waiting import until

ROOT = Path(__file__).parents[2]
WAIT = "import time\nwhile True: time.sleep(0.05)"


@pytest.fixture
def local(tmp_path):
    return Local(root=tmp_path / "state", grace=1)


def python(program: str, *arguments: str, **more) -> Job:
    return Job("job", (sys.executable, "-c", program, *arguments), workdir=ROOT, **more)


def record(local: Local, id: str) -> dict:
    return json.loads((local.root / id / "process.json").read_text())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_a_job_survives_its_submitter_and_the_terminal(local, tmp_path, number):
    go = tmp_path / "go"
    program = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.05)\nprint('continued')"
    script = (
        "import signal, sys, time; from pathlib import Path; from cluster.local import Local; from cluster.job import Job\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a parent of the tests may ignore it, as nohup does\n"
        f"job = Job('job', (sys.executable, '-c', {program!r}), workdir=Path('/'))\n"
        f"print(Local(root=Path({str(local.root)!r})).submit(job), flush=True); time.sleep(600)"
    )
    submitter = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    id = submitter.stdout.readline().strip()
    os.killpg(submitter.pid, number)  # the whole session, as a closing terminal does
    submitter.communicate()
    assert local.state(id) is State.running
    go.touch()
    assert "continued" in "".join(local.logs(id, True))
    assert local.state(id) is State.succeeded


@pytest.mark.parametrize(
    ("program", "code"), [("", 0), ("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", -9)]
)
def test_exit_codes(local, program, code):
    id = local.submit(python(program))
    until(lambda: local.state(id).ended)
    assert local.exit_code(id) == code


def test_a_program_that_is_not_there(local):
    job = Job("job", ("no-such-program",), workdir=ROOT)
    assert "no-such-program" in local.check(job)[0]
    id = local.submit(job)
    until(lambda: local.state(id).ended)
    assert local.state(id) is State.failed
    assert "no-such-program" in "".join(local.logs(id, False))


def test_cancel_reaches_what_the_command_started(local):
    child = f"import subprocess, sys; c = subprocess.Popen([sys.executable, '-c', {WAIT!r}]); print(c.pid, flush=True); c.wait()"
    id = local.submit(python(child))
    pid = int(until(lambda: "".join(local.logs(id, False)).strip()))
    assert supervisor.identity(pid)
    local.cancel(id)
    until(lambda: local.state(id).ended)
    until(lambda: supervisor.identity(pid) is None)
    assert local.state(id) is State.cancelled


def test_workers_left_behind_end_with_the_job(local):
    program = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {WAIT!r}]).pid)"
    id = local.submit(python(program))
    until(lambda: local.state(id).ended)
    pid = int("".join(local.logs(id, False)))
    until(lambda: supervisor.identity(pid) is None)


def test_a_vanished_job_is_lost(local):
    id = local.submit(python(WAIT))
    until(lambda: "child" in record(local, id))
    os.kill(record(local, id)["supervisor"]["pid"], signal.SIGKILL)
    until(lambda: not supervisor.alive(record(local, id)["supervisor"]))
    assert local.state(id) is State.running  # the command itself continues
    os.kill(record(local, id)["child"]["pid"], signal.SIGKILL)
    until(lambda: local.state(id).ended)
    assert local.state(id) is State.lost
    assert list(local.logs(id, True)) == []


def test_a_job_whose_supervisor_was_killed_can_still_be_cancelled(local):
    id = local.submit(python(WAIT))
    until(lambda: "child" in record(local, id))
    os.kill(record(local, id)["supervisor"]["pid"], signal.SIGKILL)
    until(lambda: not supervisor.alive(record(local, id)["supervisor"]))
    local.cancel(id)
    until(lambda: local.state(id).ended)
    assert local.state(id) is State.cancelled


def test_another_process_with_the_same_pid_is_not_taken_for_the_job(local):
    folder = local.root / "job-1"
    folder.mkdir(parents=True)
    mine = supervisor.identity(os.getpid())
    here = {"host": os.uname().nodename}
    (folder / "process.json").write_text(json.dumps(here | {"supervisor": mine}))
    assert local.state("job-1") is State.running
    (folder / "process.json").write_text(json.dumps(here | {"supervisor": mine | {"started": "before the reboot:1"}}))
    assert local.state("job-1") is State.lost
    local.cancel("job-1")  # must not signal this process


def test_a_job_of_another_host_is_not_guessed_at(local):
    folder = local.root / "job-1"
    folder.mkdir(parents=True)
    (folder / "process.json").write_text(json.dumps({"host": "elsewhere", "supervisor": {"pid": 1, "started": "x"}}))
    with pytest.raises(LauncherError, match="elsewhere"):
        local.state("job-1")
    (folder / "exit.json").write_text('{"code": 0}')
    assert local.state("job-1") is State.succeeded


def test_a_zombie_is_not_alive():
    child = subprocess.Popen([sys.executable, "-c", ""])
    until(lambda: supervisor.identity(child.pid) is None)
    assert child.wait() == 0


def test_output_that_is_no_utf8_or_cut_within_a_letter_is_shown(local):
    program = (
        "import os, time; os.write(1, 'ü'.encode()[:1]); time.sleep(0.5); os.write(1, 'ü'.encode()[1:] + b'\\xff.')"
    )
    assert "".join(local.logs(local.submit(python(program)), True)) == "ü\ufffd."


@pytest.mark.parametrize("id", ["", "..", "../state", "/", "nobody"])
def test_ids_that_are_no_jobs_are_refused(local, id):
    with pytest.raises(LauncherError, match="no local job"):
        local.state(id)


def test_impossible_jobs(local):
    reasons = local.check(Job("a", ("true",), Resources(nodes=2), workdir=Path("/no/such/folder")))
    assert len(reasons) == 2
    assert "/no/such/folder" in reasons[0]
    assert "2 nodes" in reasons[1]
    assert local.check(Job("a", ("true",), Resources(cpus=float("nan")), workdir=ROOT))


def test_secret_variables_are_not_on_disk(local):
    id = local.submit(python("import os; assert os.environ['MY_TOKEN'] == 's3cret'", env={"MY_TOKEN": "s3cret"}))
    until(lambda: local.state(id).ended)
    assert local.state(id) is State.succeeded
    assert not any("s3cret" in path.read_text() for path in local.root.rglob("*") if path.is_file())
