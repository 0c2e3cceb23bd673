"""A state folder, a configuration folder and a project of each test's own, and the shelf as a backend."""

import sys
import time

import pytest

from cluster import store
from cluster.backends import BACKENDS, Backend
from cluster.local import Local
from ray_jobs.jobs import verbs
from tests.ray_jobs.jobs import shelf


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRISE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "project/.git").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setitem(BACKENDS, "shelf", Backend("tests.ray_jobs.jobs.shelf:Shelf"))
    for kept in (shelf.KEPT, shelf.HISTORIES, shelf.ASKED):
        kept.clear()
    yield tmp_path / "state"
    for entry in store.entries(tmp_path / "state/jobs")[0]:  # a test that failed leaves nothing running
        if entry.on == "local":
            Local(tmp_path / "state/local", grace=1).cancel(entry.id)


@pytest.fixture
def echo(tmp_path):
    """An 'interpreter' that prints the command it is given, whatever `-m ray_jobs.cli` would do."""
    script = tmp_path / "echo"
    script.write_text(
        f"#!{sys.executable} -SE\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\nsys.exit(3 * ('fail' in sys.argv))\n"
    )
    script.chmod(0o755)
    return str(script)


@pytest.fixture
def sleeper(tmp_path):
    """An 'interpreter' that never ends by itself."""
    script = tmp_path / "sleeper"
    script.write_text("#!/bin/sh\nexec sleep 600\n")
    script.chmod(0o755)
    return str(script)


@pytest.fixture
def only():
    """The one job that there is."""

    def found() -> store.Entry:
        [entry] = store.entries()[0]
        return entry

    return found


@pytest.fixture
def ended():
    """Waits for a job's end, and says how it ended."""

    def wait(id: str) -> str:
        deadline = time.monotonic() + 400
        while not (now := verbs.state_of(verbs.find(id))).ended:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return now.value

    return wait
