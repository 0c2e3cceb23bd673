"""What every launcher must do. New launchers in `cluster/` are found automatically; each needs a real cluster in `launcher_on` below."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import cluster
from cluster.backends import BACKENDS
from cluster.job import Job, Launcher, LauncherError, Resources, State
from cluster.kubernetes.words import version
from tests.cluster import heads, kube_server, slurms

METHODS = [name for name, _ in inspect.getmembers(Launcher, inspect.isfunction) if not name.startswith("_")]
DEADLINE = 90
AWKWARD = ("two words", 'it\'s "quoted"', "$(touch pwned) `x` $HOME", "line\nbreak", "", "*", "-x", "ü\\n", "a;b&c|d>e")


def found() -> list[type]:
    """Every class in `cluster` and its sub-packages that has a launcher's methods."""
    modules = [importlib.import_module(m.name) for m in pkgutil.walk_packages(cluster.__path__, "cluster.")]
    return [
        item
        for module in modules
        for item in vars(module).values()
        if inspect.isclass(item) and item.__module__ == module.__name__ and item is not Launcher
        if all(callable(getattr(item, method, None)) for method in METHODS)
    ]


def backend_of(kind: type) -> str:
    """The name of the backend whose launcher this class is; '' where `BACKENDS` has no row for it."""
    address = f"{kind.__module__}:{kind.__qualname__}"
    return next((name for name, backend in BACKENDS.items() if backend.launcher == address), "")


def launcher_on(kind: type, folder: Path) -> Launcher:
    """A launcher of this kind on a real cluster of the test's own."""
    name = backend_of(kind)
    if name == "local":
        return kind(root=folder / "state", grace=1.5)
    if name == "ray":
        return kind(heads.open_head(), grace=2)
    if name == "kubernetes":  # a stand-in that runs what KubeRay's submitter would hand to Ray
        return kind(image=f"registry/reprise:{version('reprise')}", kubeconfig=kube_server.start(folder), grace=1.5)
    if name == "slurm":
        slurms.open_slurm()
        (folder / "shared").mkdir()
        return kind(shared=str(folder / "shared"), grace=2)
    pytest.fail(
        f"{kind.__module__} has the launcher {kind.__name__}, and this suite has no cluster for it: add one here."
    )


@pytest.fixture(params=found(), ids=lambda kind: kind.__name__)
def launcher(request, tmp_path) -> Iterator[Launcher]:
    yield launcher_on(request.param, tmp_path)
    kube_server.stop_all()


def job(tmp_path: Path, program: str, *arguments: str, **more) -> Job:
    workdir = tmp_path / "work"
    workdir.mkdir(exist_ok=True)
    return Job("contract", (sys.executable, "-c", program, *arguments), workdir=workdir, **more)


def end(launcher: Launcher, id: str) -> State:
    """The final state, waited for."""
    deadline = time.monotonic() + DEADLINE
    while not (state := launcher.state(id)).ended:
        assert time.monotonic() < deadline, f"{id} is still {state}"
        time.sleep(0.05)
    return state


def wait_for(launcher: Launcher, id: str, text: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while text not in "".join(launcher.logs(id, False)):
        assert time.monotonic() < deadline, f"{id} never printed {text}"
        time.sleep(0.05)


def test_the_launchers_are_found():
    assert {"Local", "Ray", "Slurm", "Kubernetes"} <= {kind.__name__ for kind in found()}
    assert {backend_of(kind) for kind in found()} == set(BACKENDS)


def test_satisfies_the_protocol(launcher):
    assert isinstance(launcher, Launcher)


def test_render_shows_all_hides_secrets_and_changes_nothing(launcher, tmp_path):
    wanted = job(
        tmp_path, "print()", "--hub.token=s3cret", "--password", "s3cret", "--lr", "7", env={"A_TOKEN": "s3cret"}
    )
    before = sorted(tmp_path.rglob("*"))
    text = launcher.render(wanted)
    assert text == launcher.render(wanted)
    assert sorted(tmp_path.rglob("*")) == before
    assert "--lr 7" in text
    assert "contract" in text
    assert "s3cret" not in text


def test_check_finds_nothing_against_a_small_job(launcher, tmp_path):
    assert launcher.check(job(tmp_path, "print()")) == []


def test_check_names_every_reason_and_submits_nothing(launcher, tmp_path):
    marker = tmp_path / "ran"
    huge = job(tmp_path, f"open({str(marker)!r}, 'w')", resources=Resources(cpus=1e6, gpus=999, memory=2**60))
    reasons = launcher.check(huge)
    for what in ("CPU", "GPU", "memory"):
        assert sum(what in reason for reason in reasons) == 1, what
    assert all(reason.endswith(".") and "\n" not in reason for reason in reasons)
    assert not marker.exists()


def test_arguments_and_variables_arrive_verbatim(launcher, tmp_path):
    program = "import json, os, sys; print('GOT' + json.dumps([sys.argv[1:], os.environ['ODD']]) + 'END')"
    wanted = job(tmp_path, program, *AWKWARD, env={"ODD": "".join(AWKWARD)})
    id = launcher.submit(wanted)
    text = "".join(launcher.logs(id, True))
    assert json.loads(text.rpartition("GOT")[2].partition("END")[0]) == [list(AWKWARD), "".join(AWKWARD)]
    assert launcher.state(id) is State.succeeded
    assert not list(tmp_path.rglob("pwned"))


def test_it_runs_in_the_working_directory(launcher, tmp_path):
    wanted = job(tmp_path, "print(open('here.txt').read())")
    (wanted.workdir / "here.txt").write_text("found me")
    assert "found me" in "".join(launcher.logs(launcher.submit(wanted), True))


def test_following_shows_what_comes_later_once_and_ends_with_the_job(launcher, tmp_path):
    program = "import time\nfor i in range(5): print('line', i, flush=True); time.sleep(0.2)"
    id = launcher.submit(job(tmp_path, program))
    text = "".join(launcher.logs(id, True))
    assert [line for line in text.splitlines() if line.startswith("line ")] == [f"line {i}" for i in range(5)]
    assert launcher.state(id).ended


def test_a_failing_command_fails(launcher, tmp_path):
    assert end(launcher, launcher.submit(job(tmp_path, "raise SystemExit(3)"))) is State.failed


def test_a_job_knows_its_id_and_may_get_another(launcher, tmp_path):
    program = "import os; print('I AM ' + os.environ['REPRISE_JOB'] + ' INDEED')"
    first = launcher.submit(job(tmp_path, program))
    assert f"I AM {first} INDEED" in "".join(launcher.logs(first, True))
    second = launcher.submit(job(tmp_path, program, env={"REPRISE_JOB": first}))
    assert f"I AM {first} INDEED" in "".join(launcher.logs(second, True))


def test_its_history_says_how_a_job_went(launcher, tmp_path):
    if not hasattr(launcher, "history"):
        pytest.skip("this launcher has no history")
    id = launcher.submit(job(tmp_path, "raise SystemExit(3)"))
    assert end(launcher, id) is State.failed
    history = launcher.history(id)
    assert history.attempts == 1
    assert history.ended >= history.started >= 0
    assert "3" in history.why or not history.why


def test_cancelling_leaves_time_to_save(launcher, tmp_path):
    program = (
        "import os, signal, time\n"
        "def save(*_): time.sleep(0.3); print('saved', flush=True); os._exit(0)\n"
        "signal.signal(signal.SIGTERM, save); print('ready', flush=True)\n"
        "while True: time.sleep(1)"
    )
    id = launcher.submit(job(tmp_path, program))
    wait_for(launcher, id, "\nready" if "ray_clusters" in type(launcher).__module__ else "ready")
    launcher.cancel(id)
    assert end(launcher, id) is State.cancelled
    assert "\nsaved" in "".join(launcher.logs(id, False))


def test_cancelling_ends_a_deaf_command_after_the_grace_period(launcher, tmp_path):
    program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('d' + 'eaf', flush=True); time.sleep(600)"
    id = launcher.submit(job(tmp_path, program))
    wait_for(launcher, id, "deaf")
    launcher.cancel(id)
    assert end(launcher, id) is State.cancelled


def test_cancelling_an_ended_job_changes_nothing(launcher, tmp_path):
    id = launcher.submit(job(tmp_path, "print('done')"))
    assert end(launcher, id) is State.succeeded
    launcher.cancel(id)
    assert launcher.state(id) is State.succeeded


def test_an_unknown_job_is_lost_or_refused_and_has_no_logs(launcher):
    with pytest.raises(LauncherError):
        "".join(launcher.logs("contract-00000000", False))
