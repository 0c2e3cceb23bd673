"""Commands that are typed in a folder full of modules and git settings of someone else import and run none of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ray_jobs.run.provenance import git_commit
from tests.ray_jobs.lab import RECIPE

MODULES = (
    "json", "random", "ctypes", "torch", "numpy", "lightning", "ray", "gymnasium", "yaml", "ray_jobs", "cluster", "datamodules", "queue",
    "lightning_modules", "sitecustomize", "usercustomize", "encodings", "socket", "colorsys", "cloudpickle", "pandas", "scipy", "pickle",
)  # fmt: skip
DIGITS = ("ddpm_digits", "--steps", "4", "--width", "16", "--levels", "25")
TINY = ("ppo_cartpole", "--steps", "64", "--eval_episodes", "1")


@pytest.fixture
def mark(tmp_path):
    """A file with the names of the payloads that have run."""
    return tmp_path / "mark"


@pytest.fixture
def here(tmp_path, mark, monkeypatch):
    """A folder of modules that have the names of those that we import."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in MODULES:
        (folder / f"{name}.py").write_text(
            f"open({str(mark)!r}, 'a').write('{name} ')\nraise SystemExit('{name} of a stranger')\n"
        )
    monkeypatch.setenv("REPRISE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("PYTHONPATH", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(folder)
    return folder


def reprise(*words, code=0):
    """`reprise words...` as its script starts it, which has the script's folder and not the current one on its path."""
    start = "import sys; from ray_jobs.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-P", "-c", start, *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def marked(mark):
    return mark.read_text() if mark.exists() else ""


def test_the_payloads_work(here, mark):
    subprocess.run([sys.executable, "-c", "import colorsys"], capture_output=True)
    assert "colorsys" in marked(mark)


def test_a_group_of_workers(here, mark):
    reprise("train", *DIGITS, "--workers", "2", "--out", "run")
    assert marked(mark) == ""


@pytest.mark.parametrize("together", [(), ("--together", "2")], ids=["alone", "together"])
def test_seeds(here, mark, together):
    said = reprise("reproduce", *TINY, "--seeds", "2", *together, "--out", "runs", code=1)
    assert list(Path("runs").rglob("result.json")), said
    assert marked(mark) == ""


def test_a_job_of_this_machine(here, mark):
    reprise("submit", "train", *TINY, "--out", "run")
    [record] = (here.parent / "state/jobs").glob("*.json")
    assert reprise("logs", "-f", record.stem) and Path("run/result.json").exists()
    assert marked(mark) == ""


@pytest.mark.slow
def test_runners_on_ray(here, mark):
    reprise(
        "train",
        "ppo_cartpole",
        "--steps",
        "64",
        "--eval_episodes",
        "1",
        "--runners",
        "1",
        "--address",
        "local",
        "--out",
        "run",
    )
    assert marked(mark) == ""


@pytest.mark.slow
def test_a_search(here, mark):
    reprise("tune", *TINY, "--trials", "1", "--out", "search")
    assert marked(mark) == ""


@pytest.mark.slow
def test_the_doctor(here, mark):
    reprise("doctor", "--deep")
    assert marked(mark) == ""


def test_recipes_of_the_user_are_found_by_path_and_by_pythonpath(here, mark, monkeypatch):
    (here / "mylab").mkdir()
    (here / "mylab/mine.py").write_text(RECIPE.format(name="mine", metric="score", claim="None"))
    (here / "mylab/colorsys.py").write_text((here / "colorsys.py").read_text())
    said = reprise("show", "mylab.mine", code=2)
    assert "PYTHONPATH=." in said and "mylab/mine.py" in said and said.count("\n") == 1
    assert "Aiming" in reprise("show", "mylab/mine.py")
    assert marked(mark) == ""
    for name in MODULES:
        (here / f"{name}.py").unlink()  # who names this folder himself imports from it
    monkeypatch.setenv("PYTHONPATH", ".")
    assert "Aiming" in reprise("show", "mylab.mine")


# ---- git


def test_a_checkouts_own_settings_run_nothing(tmp_path, mark, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\nprintf '%s ' $1 >> {mark}\ncat\n")
    program.chmod(0o755)
    folder = tmp_path / "checkout"
    folder.mkdir()

    def git(*words):
        subprocess.run(
            ["git", "-C", str(folder), "-c", "user.email=a@b", "-c", "user.name=n", *words],
            check=True,
            capture_output=True,
        )

    git("init", "-q")
    for name in "fgh":
        (folder / name).write_text(name)
    git("add", ".")
    git("commit", "-qm", "x")
    hooks = folder / "hooks"
    hooks.mkdir()
    (hooks / "post-index-change").write_text(f"#!/bin/sh\nprintf 'hook ' >> {mark}\n")
    (hooks / "post-index-change").chmod(0o755)
    (folder / ".gitattributes").write_text("f filter=clean\ng filter=process\nh filter=odd=name\n")
    settings = {
        "core.fsmonitor": f"{program} monitor", "filter.clean.clean": f"{program} clean", "filter.process.process": f"{program} process",
        "filter.process.required": "true", "filter.odd=name.clean": f"{program} odd", "core.hooksPath": str(hooks),
    }  # fmt: skip
    for name, value in settings.items():
        git("config", name, value)
    for name in "fgh":
        os.utime(folder / name, (1, 1))
    found = git_commit(folder)
    assert found and len(found) == 40 and marked(mark) == ""
    (folder / "f").write_text("changed")
    assert git_commit(folder) == f"{found}+changes" and marked(mark) == ""
    subprocess.run(["git", "-C", str(folder), "status"], capture_output=True)
    assert "monitor" in marked(mark)  # the payload works
