"""A stranger's run folder, or a stranger's storage, never makes Reprise read, write or delete outside the folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ray_jobs.errors import UsageError
from ray_jobs.recipe.spec import Spec
from ray_jobs.run import files, private
from ray_jobs.run.folder import Run
from ray_jobs.run.mirror import local_name
from ray_jobs.run.place import Place


@pytest.fixture()
def mine(tmp_path):
    """A folder and a file of the user, outside the run folder, and a check that they are as they were."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("secret", "step-0000000001.ckpt", "step-0000000002.ckpt", "step-0000000003.ckpt"):
        (folder / name).write_text(f"content of {name}")
    yield folder
    assert {f.name: f.read_text() for f in folder.iterdir()} == {
        f.name: f"content of {f.name}" for f in folder.iterdir()
    }
    assert len(list(folder.iterdir())) == 4


def a_run(path: Path) -> Run:
    return Run.create(Spec("ddpm_digits", {}, 0, out=str(path)), kind="Fit")


NAMES = (".lock", "run.json", "status.json", "result.json", "metrics.jsonl", "log.txt", "samples.png", "samples.npy")


@pytest.mark.parametrize("name", [*NAMES, "tensorboard", "checkpoints", "deep/er/link"])
@pytest.mark.parametrize("to", ["secret", "."])
def test_a_link_in_a_run_folder_is_refused(tmp_path, mine, name, to):
    run = a_run(tmp_path / "run")
    run.save(1, {"w": torch.zeros(1)})
    run.release()
    place = run.path / name
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir():
        (place / "step-0000000001.ckpt").unlink()
        place.rmdir()
    place.unlink(missing_ok=True)
    place.symlink_to(mine / to)
    with pytest.raises(UsageError, match=r"is a link or no plain file|cannot be used"):
        Run.open(run.path).lock()
    with pytest.raises(UsageError, match=r"is a link or no plain file|cannot be used|already holds a run"):
        a_run(run.path)


@pytest.mark.parametrize("name", ["log.txt", "metrics.jsonl", ".lock", "run.json"])
def test_a_pipe_is_refused_and_stops_nobody(tmp_path, name):
    run = a_run(tmp_path / "run")
    run.release()
    (run.path / name).unlink(missing_ok=True)
    os.mkfifo(run.path / name)
    with pytest.raises(UsageError):
        Run.open(run.path).lock()


def test_links_that_appear_while_it_trains_are_not_followed(tmp_path, mine):
    """Each way to write, with a link put in the place after the folder was opened."""
    run = a_run(tmp_path / "run")
    run.save(1, {"w": torch.zeros(1)})
    (run.path / "checkpoints" / "step-0000000001.ckpt").unlink()
    (run.path / "checkpoints").rmdir()
    (run.path / "checkpoints").symlink_to(mine)
    assert run.checkpoints() == []
    with pytest.raises(OSError, match="never followed"):
        run.save(4, {"w": torch.zeros(1)})
    for name in ("metrics.jsonl", "status.json", "result.json", "samples.npy", "log.txt", "run.json"):
        (run.path / name).unlink(missing_ok=True)
        (run.path / name).symlink_to(mine / "secret")
    run.log(1, {"loss": 1.0})
    run.status("running", 1, 2)
    files.write(run.path / "samples.npy", b"drawn")
    for mode in ("r", "a", "w", "r+"):
        with pytest.raises(OSError, match="never followed"):
            files.opened(run.path / "log.txt", mode)
    files.remove(run.path / "log.txt")
    assert not os.path.lexists(run.path / "log.txt")


def test_a_second_name_of_a_file_is_not_written_through(tmp_path, mine):
    folder = tmp_path / "run"
    folder.mkdir()
    os.link(mine / "secret", folder / "log.txt")
    with pytest.raises(OSError, match="never followed"):
        files.opened(folder / "log.txt", "a")
    os.unlink(folder / "log.txt")


def test_a_run_folder_that_is_itself_a_link_is_fine(tmp_path):
    run = a_run(tmp_path / "run")
    run.save(1, {"w": torch.ones(1)})
    run.release()
    (tmp_path / "short").symlink_to(run.path)
    there = Run.open(tmp_path / "short").lock()
    there.log(2, {"loss": 1.0})
    there.save(2, {"w": torch.ones(1)})
    assert [p.name for p in there.checkpoints()] == ["step-0000000002.ckpt", "step-0000000001.ckpt"]
    there.release()


def test_only_a_png_comes_into_a_report(tmp_path, mine):
    (tmp_path / "a.png").symlink_to(mine / "secret")
    (tmp_path / "b.png").write_text("no picture")
    (tmp_path / "c.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")
    assert [files.picture(tmp_path / f"{name}.png") is not None for name in "abcd"] == [False, False, True, False]


# ---- names of remote files

BAD = (
    "../x", "a/../../x", "..", "a/..", "/etc/x", "//x", "", "a//b", "a/", ".", "./a", "C:/x", "c:x", "a\\b", "..\\x", "a\0b",
    "a\nb", "a\x1b[2J", "a\u202eb", "x" * 250, "é" * 130, "/".join(["ab"] * 600), "a/" + "x" * 300,
)  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_name_that_leads_elsewhere_is_refused(name):
    with pytest.raises(UsageError, match="whose name cannot be one of a run folder"):
        local_name("bucket/run", f"bucket/run/{name}")


def test_names_of_a_run_are_taken():
    for name in (
        "run.json",
        "checkpoints/step-0000000001.ckpt",
        "tensorboard/events.out.tfevents.17.a-b.3",
        "ray_train/é/x y",
    ):
        assert local_name("bucket/run", f"bucket/run/{name}") == name
    with pytest.raises(UsageError):
        local_name("bucket/run", "bucket/runaway/x")


class Hostile:
    """Stands for a storage whose keys are chosen by a stranger."""

    protocol = "hostile"

    def __init__(self, key: str) -> None:
        self.key = key

    def cat_file(self, path: str) -> bytes:
        raise FileNotFoundError(path)

    def find(self, root: str) -> list[str]:
        return [f"{root}/run.json", f"{root}/{self.key}"]

    def size(self, path: str) -> int:
        return 3

    def get_file(self, remote: str, local: str) -> None:
        Path(local).write_text("mark")


@pytest.mark.parametrize("key", ["../../mark", "../../../mark", "/mark", "a/../../../mark", "..\\mark"])
def test_no_key_of_a_storage_is_written_outside_the_copy(tmp_path, monkeypatch, key):
    import fsspec

    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path / "deep" / "cache"))
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda uri: (Hostile(key), "bucket/run"))
    with pytest.raises(UsageError, match="nothing of it was fetched"):
        Run.open("hostile://bucket/run")
    assert not list(tmp_path.rglob("*mark*")) and not list(tmp_path.rglob("run.json"))


@pytest.mark.parametrize("address", ["memory://run", "ftp://127.0.0.1:9/run", "nosuch://x", "sftp://127.0.0.1:9/x"])
def test_an_address_that_cannot_hold_a_run_is_one_sentence(address, tmp_path, monkeypatch):
    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path))
    for use in (Run.open, lambda at: a_run(Path(at)) if "://" not in at else Run.create(Spec("x", out=at), kind="Fit")):
        with pytest.raises(UsageError, match=r"cannot be used|memory of one process"):
            use(address)


# ---- the folder of local copies


def test_the_folder_of_copies_is_the_users_alone(tmp_path, monkeypatch):
    monkeypatch.delenv("REPRISE_CACHE", raising=False)
    monkeypatch.setattr(private.tempfile, "gettempdir", lambda: str(tmp_path))
    at = tmp_path / f"reprise-{os.getuid()}"
    copy = private.copy_of("s3://bucket/run")
    assert copy.parent == at and [p.stat().st_mode & 0o777 for p in (at, copy)] == [0o700, 0o700]
    at.chmod(0o755)  # as an earlier version made it
    private.copy_of("s3://bucket/run")
    assert at.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("trap", ["link", "file", "other"])
def test_a_folder_of_copies_that_another_user_has_made_is_refused(tmp_path, monkeypatch, trap, mine):
    monkeypatch.delenv("REPRISE_CACHE", raising=False)
    monkeypatch.setattr(private.tempfile, "gettempdir", lambda: str(tmp_path))
    at = tmp_path / f"reprise-{os.getuid()}"
    if trap == "link":
        at.symlink_to(mine)
    elif trap == "file":
        at.write_text("")
    else:
        at.mkdir()
        monkeypatch.setattr(private.os, "getuid", lambda: 12345)
        at = at.rename(tmp_path / "reprise-12345")
    with pytest.raises(UsageError, match="set REPRISE_CACHE to a folder of yours"):
        Run.at("s3://bucket/run")


# ---- a folder that vanishes


def test_a_folder_that_vanishes_is_made_again(tmp_path):
    import shutil

    run = a_run(tmp_path / "run")
    said = []
    run.report = said.append
    run.log(1, {"loss": 1.0})
    shutil.rmtree(run.path)
    run.log(2, {"loss": 1.0})
    run.save(2, {"w": torch.ones(2)})
    assert "had vanished and was made again" in said[0]["note"]
    run.log(3, {"loss": 1.0})
    with pytest.raises(UsageError, match="Another process is at work"):
        Run.open(run.path).lock()
    run.finish({"m": 1.0}, step=3, device="cpu")
    run.release()
    again = Run.open(run.path)
    assert again.spec.recipe == "ddpm_digits" and torch.equal(again.latest()["w"], torch.ones(2)) and again.result


def test_a_folder_that_another_run_has_taken_is_left_to_it(tmp_path):
    run = a_run(tmp_path / "run")
    run.path.rename(tmp_path / "aside")
    other = Run.create(Spec("ppo_cartpole", {}, 0, out=str(tmp_path / "run")), kind="Play")
    with pytest.raises(UsageError, match="Another process is at work in"):
        run.save(1, {"w": torch.ones(2)})
    other.release()
    with pytest.raises(UsageError, match="holds another run now"):
        run.save(1, {"w": torch.ones(2)})
    assert Run.open(tmp_path / "run").checkpoints() == []


def test_a_checkpoint_that_has_no_place_is_kept_where_it_can_be_resumed(tmp_path, monkeypatch):
    import shutil

    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path / "cache"))
    run = a_run(tmp_path / "run")
    shutil.rmtree(run.path)
    run.path.write_text("a file in its place")
    with pytest.raises(OSError, match=r"'reprise resume .*rescued-") as caught:
        run.save(7, {"w": torch.full((2,), 7.0)})
    (kept,) = (tmp_path / "cache").iterdir()
    assert str(kept) in caught.value.strerror
    assert torch.equal(Run.open(kept).latest()["w"], torch.full((2,), 7.0)) and Run.open(kept).spec == run.spec
    run.path.unlink()
    run.save(8, {"w": torch.full((2,), 8.0)})
    assert not kept.exists() and len(run.checkpoints()) == 1


def test_a_place_is_left_by_a_process_that_ends(tmp_path):
    place = Place(tmp_path, "here")
    place.take()
    code = f"from ray_jobs.run.place import Place; from pathlib import Path; print(Place(Path({str(tmp_path)!r}), 'x').held())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"
    place.release()
    assert not place.held()
