"""What a user meets: data that moved, a setting that was renamed, a run folder that vanishes or is closed while the run trains."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.faults import Fault
from tests.ray_jobs.command import equal, here, learned, newest, start, wait_for

sys.path.insert(0, str(Path(__file__).parents[1]))
from toy import write_toy


@pytest.fixture()
def toy(tmp_path, monkeypatch):
    """The name of a tiny recipe that new processes can import."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return write_toy(tmp_path)


def ended(process) -> tuple[int, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out + err


def test_a_renamed_setting_is_named(toy, tmp_path):
    env = {"PYTHONPATH": str(tmp_path)}
    with start("train", toy, "--width", 8, "--out", tmp_path / "run", env=env) as process:
        assert ended(process)[0] == 0
    module = tmp_path / "toylab" / "mine.py"
    module.write_text(module.read_text().replace("width: ", "units: ").replace("* width", "* units"))
    with start("evaluate", tmp_path / "run", env=env) as process:
        code, said = ended(process)
    assert code == 2 and "--width" in said and said.count("\n") == 1, said


@pytest.mark.fault("storage", "the run folder is {how} while the run trains")
@pytest.mark.parametrize("how", ["deleted", "replaced by a file"])
def test_a_folder_that_goes_while_the_run_trains_loses_nothing_that_can_be_kept(toy, tmp_path, how, fault: Fault):
    env = {"PYTHONPATH": str(tmp_path), "REPRISE_CACHE": str(tmp_path / "cache")}
    run, settings = tmp_path / "run", ("--steps", 60, "--save_every", 10)
    with start("train", toy, *settings, "--out", tmp_path / "undisturbed", env=env) as process:
        assert ended(process)[0] == 0
    with start("train", toy, *settings, "--pace", 0.1, "--out", run, env=env) as process:
        wait_for(lambda: list(run.glob("checkpoints/*.ckpt")), process)
        run.rename(tmp_path / "aside")
        if how == "deleted":
            shutil.rmtree(tmp_path / "aside", ignore_errors=True)
        else:
            run.write_text("a file in its place")
        code, said = ended(process)
    assert "Traceback" not in said
    if how == "deleted":
        fault.saw(said, "had vanished and was made again")
        assert code == 0 and (run / "result.json").exists() and (run / "run.json").exists()
    else:
        fault.saw(said, "reprise: .*'reprise resume")
        assert code == 1, said
        (run,) = (tmp_path / "cache").glob("rescued-*")
        with start("resume", run, env=env) as process:
            code, said = ended(process)
        fault.saw(said, "continuing from step 60")
        assert code == 0, said
    fault.lost(0, 10)
    fault.equal(equal(learned(newest(run)), learned(newest(tmp_path / "undisturbed"))))


def test_a_recipe_in_a_file_is_run_only_where_its_user_named_it(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("REPRISE_STATE", str(tmp_path / "mine"))
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "toylab" / "mine.py"
    here("train", f"{file}:mine", "--out", "run")
    here("evaluate", "run")
    file.write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()\n" + file.read_text())
    monkeypatch.setenv("REPRISE_STATE", str(tmp_path / "another"))
    for verb in ("evaluate", "sample", "report", "resume"):
        if verb == "resume":
            os.unlink("run/result.json")
        with start(verb, "run") as process:
            code, said = ended(process)
        assert code == 2 and "which is code" in said, said
    assert not (tmp_path / "ran").exists()
