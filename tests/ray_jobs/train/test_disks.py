"""Disks that are really full: a small one of its own for each test, filled to the last byte while a training continues."""

import contextlib
import json
import os
import shutil
import subprocess

import pytest

from ray_jobs.errors import Failed
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.run.folder import Run
from ray_jobs.run.metrics_log import AppendedFile
from ray_jobs.train.launch import launch, resume
from tests.ray_jobs.command import alike, here, lines, newest

POINTS = {"steps": 60, "batch": 64, "width": 16, "levels": 25, "log_every": 1, "save_every": 10}
BALANCE = {"steps": 16384, "envs": 4, "log_every": 256, "save_every": 2048, "stop_return": 1000, "eval_episodes": 2}
SPECS = {"a generative model": ("ddpm_mixture2d", POINTS), "an agent": ("ppo_cartpole", BALANCE)}


@pytest.fixture()
def disk(tmp_path):
    """A disk of 24 MB that is nobody else's."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "reprise-test", place], capture_output=True)
    if made.returncode:
        pytest.skip(f"only who may mount can have a disk of his own: {made.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@contextlib.contextmanager
def read_only(place):
    """Inside the block nothing can be written below `place`, a mounted disk, or for an ordinary user any folder."""
    mounted = os.path.ismount(place)
    lock, free = (["mount", "-o", f"remount,{how}", place] for how in ("ro", "rw"))
    subprocess.run(lock if mounted else ["chmod", "-R", "a-w", place], check=True)
    try:
        yield
    finally:
        subprocess.run(free if mounted else ["chmod", "-R", "u+w", place], check=True)


TINY = ("maf_density2d", "--steps", 4, "--batch", 16, "--save_every", 2, "--log_every", 1)
ON_READ_ONLY = {
    "train": ("train", *TINY, "--out", "new"),
    "resume": ("resume", "half"),
    "sample": ("sample", "whole", "--n", 3),
    "report": ("report", "whole", "--out", "page.html"),
    "tune": ("tune", "maf_density2d", "--space.lr", "uniform(0.1,0.2)", "--trials", 1, "--out", "search"),
    "reproduce": ("reproduce", "maf_density2d", "--seeds", 1, "--out", "seeds"),
}
"""Verbs that write, with words for a disk that holds a whole run and half of one."""


@pytest.fixture()
def place(request, tmp_path):
    """A folder in which nothing can be written, by root neither: a disk of its own, or a folder of an ordinary user."""
    return tmp_path if os.geteuid() else request.getfixturevalue("disk")


def test_a_read_only_disk_is_one_sentence_and_what_only_reads_works(place, monkeypatch):
    here("train", *TINY, "--out", place / "whole", "-q")
    shutil.copytree(place / "whole", place / "half")
    (place / "half" / "result.json").unlink()
    next((place / "half" / "checkpoints").glob("*4.ckpt")).unlink()
    monkeypatch.chdir(place)
    with read_only(place):
        for verb, words in ON_READ_ONLY.items():
            said = here(*words, code=1 if verb in ("sample", "report") else 2)
            assert said.count("\n") == 1 and said.startswith("reprise: "), (verb, said)
            assert "Read-only file system" in said or "Permission denied" in said, (verb, said)
            assert ".tmp" not in said, (verb, said)
        assert "excess_nats" in here("evaluate", "whole")
    monkeypatch.undo()
    assert sorted(p.name for p in place.iterdir()) == ["half", "whole"]


class Filled:
    """Something else fills the disk when a training logs step `first`, and makes room again at step `last`."""

    def __init__(self, disk, monkeypatch, first: int, last: float = float("inf")) -> None:
        self.other, self.notes, self.was_full = disk / "other", [], False
        log = Run.log

        def logged(run, step, metrics):
            if first <= step < last:
                self.fill()
            else:
                self.other.unlink(missing_ok=True)
            log(run, step, metrics)

        monkeypatch.setattr(Run, "log", logged)

    def fill(self) -> None:
        """To the last byte."""
        self.was_full = True
        with contextlib.suppress(OSError), open(self.other, "ab", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)

    def report(self, event) -> None:
        self.notes += [event["note"]] if "note" in event else []


def spec(kind: str, out) -> Spec:
    recipe, settings = SPECS[kind]
    return Spec(recipe, settings, 1, Where(address="local"), str(out))


@pytest.mark.fault("storage", "the disk is full for a while ({kind})")
@pytest.mark.parametrize("kind", SPECS)
def test_a_disk_that_is_full_for_a_while_ends_no_training(kind, disk, tmp_path, monkeypatch, fault):
    """Metrics wait in memory, and are all there in the end."""
    steps = SPECS[kind][1]["steps"]
    filled = Filled(disk, monkeypatch, steps // 4, 3 * steps // 4)
    run = launch(spec(kind, disk / "run"), report=filled.report)
    assert filled.was_full
    fault.saw(filled.notes, r"checkpoint of step \d+ could not be written.*No space left on device")
    monkeypatch.undo()
    whole = launch(spec(kind, tmp_path / "whole"))
    fault.lost(lines(whole.path)[-1]["step"] - lines(run.path)[-1]["step"], 0)
    fault.equal(alike(run.path, whole.path))
    assert run.read("status.json")["state"] == "finished"


@pytest.mark.fault("storage", "the disk is full until the end, and the run is resumed when there is room ({kind})")
@pytest.mark.parametrize("kind", SPECS)
def test_a_disk_that_stays_full_is_told_and_the_run_can_continue(kind, disk, tmp_path, monkeypatch, fault):
    steps = SPECS[kind][1]["steps"]
    filled = Filled(disk, monkeypatch, steps // 2)
    with pytest.raises(Failed) as refusal:
        launch(spec(kind, disk / "run"), report=filled.report)
    fault.saw(str(refusal.value), "could not be written")
    monkeypatch.undo()
    filled.other.unlink()
    saved = newest(disk / "run")["reprise"]["step"]
    fault.lost(steps - saved, steps - steps // 2 + SPECS[kind][1]["save_every"])
    resume(str(disk / "run"))
    whole = launch(spec(kind, tmp_path / "whole"))
    fault.equal(alike(disk / "run", whole.path))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no device that is always full")
def test_what_finds_no_room_waits_in_its_order(tmp_path):
    file = AppendedFile(tmp_path / "lines")
    file.add(b"one\n")
    kept, file.file = file.file, open("/dev/full", "ab", buffering=0)
    file.add(b"two\n")
    file.add(b"three\n")
    with pytest.raises(OSError, match="No space left"):
        file.flush()
    file.file.close()
    file.file = kept
    file.add(b"four\n")
    file.close()
    assert (tmp_path / "lines").read_text() == "one\ntwo\nthree\nfour\n"


def test_tensorboard_reads_what_is_logged(tmp_path):
    """Its records, as tensorboardX's own reader would see them: checksums, then the numbers."""
    run = Run.create(Spec("ddpm_digits", out=str(tmp_path / "run")), kind="Fit")
    run.log(1, {"loss": 2.5, "rate": 1.0})
    run.log(2, {"loss": 1.5})
    run.release()
    [path] = (run.path / "tensorboard").iterdir()
    said = [(e.step, {v.tag: v.simple_value for v in e.summary.value}) for e in events(path.read_bytes())]
    assert said[0][0] == 0 and said[1:] == [(1, {}), (1, {"loss": 2.5, "rate": 1.0}), (2, {"loss": 1.5})]
    assert [json.loads(line)["loss"] for line in (run.path / "metrics.jsonl").read_text().splitlines()] == [2.5, 1.5]


def events(data: bytes):
    """The events in a file of TFRecords, each checked."""
    import struct

    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    while data:
        (size,), head = struct.unpack("<Q", data[:8]), data[:8]
        body = data[12 : 12 + size]
        checks = struct.unpack("<I", data[8:12]) + struct.unpack("<I", data[12 + size : 16 + size])
        assert checks == (masked_crc32c(head), masked_crc32c(body))
        yield Event.FromString(body)
        data = data[16 + size :]
