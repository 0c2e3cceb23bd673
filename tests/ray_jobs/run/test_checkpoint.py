"""The file of a checkpoint: damage is noticed, the one before it is used, and no file takes far more memory than it has bytes."""

import io
import json
import os
import random
import subprocess
import sys
import time
import zipfile

import pytest
import torch

from ray_jobs.errors import UsageError
from ray_jobs.recipe.spec import Spec
from ray_jobs.run import checkpoint
from ray_jobs.run.folder import Run
from ray_jobs.run.metrics_log import LONGEST, backwards

STATES = {
    "model": {"state_dict": {"w": torch.randn(40, 40)}, "global_step": 2, "loops": {"a": [1, 2.5, None]}},
    "agent": {
        "step": 2,
        "learners": [{"runners": [{"env": torch.arange(900).byte()}], "ledger": {"returns": [1.0] * 50}}],
    },
    "study": {"step": 2, "arrays": ["q"], "state": {"q": torch.zeros(7, 9, dtype=torch.float64), "n": 3}},
}


@pytest.fixture()
def run(tmp_path):
    made = Run.create(Spec("ddpm_digits", out=str(tmp_path / "run")), kind="Fit")
    yield made
    made.release()


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


@pytest.mark.parametrize("kind", STATES)
def test_no_flipped_bit_is_loaded(run, kind):
    """Of 60 bits anywhere in the file, and each bit of its end: the checkpoint before it is used, and one sentence says so."""
    run.save(1, STATES[kind] | {"mine": "older"})
    newest = run.save(2, STATES[kind] | {"mine": "newer"})
    whole, rng = newest.read_bytes(), random.Random(0)
    bits = [rng.randrange(8 * len(whole)) for _ in range(60)]
    for bit in bits + list(range(8 * (len(whole) - checkpoint.END), 8 * len(whole))):
        newest.write_bytes(whole)
        flip(newest, bit)
        run.notes.clear()
        assert run.latest()["mine"] == "older"
        (said,) = run.notes
        assert newest.name in said and "step-0000000001.ckpt" in said and "\n" not in said
    newest.write_bytes(whole)
    assert run.latest()["mine"] == "newer"


@pytest.mark.parametrize("cut", [1, 10, checkpoint.END - 1, checkpoint.END + 1, 200])
def test_one_that_is_cut_off_is_passed_over(run, cut):
    run.save(1, {"mine": "older"})
    newest = run.save(2, {"mine": "newer"})
    newest.write_bytes(newest.read_bytes()[:-cut])
    assert run.latest()["mine"] == "older" and len(run.notes) == 1


def test_one_of_an_earlier_version_has_no_checksum_and_is_read(run):
    path = run.checkpoint(3)
    path.parent.mkdir()
    torch.save({"w": torch.ones(3), "reprise": {"recipe": "ddpm_digits", "step": 3}}, path)
    assert torch.equal(run.latest()["w"], torch.ones(3)) and not run.notes


def test_pytorch_reads_what_we_write(run):
    path = run.save(3, {"w": torch.ones(3), "names": {"a", "b"}, "size": torch.Size([2]), "kind": torch.float16})
    assert torch.equal(torch.load(path, weights_only=True)["w"], torch.ones(3))
    assert run.load(path)["names"] == {"a", "b"} and run.load(path)["kind"] is torch.float16


def test_what_comes_after_a_damaged_one_replaces_it(run):
    for step in (10, 20):
        run.save(step, {"mine": step})
    flip(run.checkpoint(20), 800)
    assert run.latest()["mine"] == 10
    run.save(15, {"mine": 15})
    assert [path.name for path in run.checkpoints()] == ["step-0000000015.ckpt", "step-0000000010.ckpt"]


@pytest.mark.parametrize("wrong", [{}, {"step": "2"}, {"step": True}, {"step": 2, "learners": {}}, {"learners": []}])
def test_one_that_lacks_a_field_is_passed_over(run, wrong):
    fields = {"step": int, "learners": list}
    run.save(1, {"step": 1, "learners": []})
    run.save(2, wrong)
    assert run.latest(fields)["step"] == 1
    assert "lacks 'step'" in run.notes[0] or "lacks 'learners'" in run.notes[0]
    run.checkpoint(1).unlink()
    with pytest.raises(UsageError, match=r"lacks '(step|learners)', or holds something else"):
        run.latest(fields)


@pytest.mark.parametrize("content", [[1, 2], "text", {"a": 1}, {"reprise": 3}])
def test_what_is_no_checkpoint_of_ours(run, content):
    path = run.checkpoint(3)
    path.parent.mkdir()
    torch.save(content, path)
    with pytest.raises(UsageError, match="not one of ours"):
        run.latest()


class Sized:
    """Pickles as a call that makes something large."""

    def __init__(self, call, *arguments):
        self.how = call, arguments

    def __reduce__(self):
        return self.how


def bomb(kind: str) -> bytes:
    """The file of a checkpoint of a few megabytes or less that would take gigabytes."""
    file = io.BytesIO()
    if kind == "compressed":
        small, state = (
            io.BytesIO(),
            {"w": torch.zeros(300_000_000, dtype=torch.uint8), "reprise": {"recipe": "ddpm_digits"}},
        )
        torch.save(state, small)
        with zipfile.ZipFile(small) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new:
            for entry in old.infolist():
                new.writestr(entry.filename, old.read(entry))
        return file.getvalue()
    made = {
        "bytearray": Sized(bytearray, 2_000_000_000),
        "tensor": Sized(torch.Tensor, 600_000_000),
        "objects": None,
    }[kind]
    torch.save({"x": made, "reprise": {"recipe": "ddpm_digits"}}, file)
    if kind == "objects":
        with zipfile.ZipFile(io.BytesIO(file.getvalue())) as old, zipfile.ZipFile(out := io.BytesIO(), "w") as new:
            for entry in old.infolist():
                many = b"\x80\x02(" + b"}" * 5_000_000 + b"l."
                new.writestr(entry.filename, many if entry.filename.endswith("data.pkl") else old.read(entry))
        return out.getvalue()
    return file.getvalue()


@pytest.mark.parametrize("kind", ["compressed", "bytearray", "tensor", "objects"])
def test_a_small_file_takes_little_memory(run, kind):
    path = run.checkpoint(3)
    path.parent.mkdir()
    path.write_bytes(bomb(kind))
    assert path.stat().st_size < 6_000_000
    code = f"""
import resource, torch
from ray_jobs.run import checkpoint
from pathlib import Path
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    checkpoint.load(Path({str(path)!r}))
except checkpoint.Damaged as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    said, grown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert "not one of ours" in said or "plain value" in said or "too many small objects" in said
    assert int(grown) < 100_000, "kB"


@pytest.mark.parametrize("where", ["here", "there"])
def test_a_damaged_copy_of_a_remote_run(where, tmp_path, monkeypatch):
    """A bit flipped in the local copy is fetched again; one at the address is passed over."""
    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path / "here"))
    run = Run.create(Spec("ddpm_digits", out=f"file://{tmp_path}/store/run"), kind="Fit")
    for step in (1, 2):
        run.save(step, {"mine": step})
    run.release()
    flip(run.checkpoint(2) if where == "here" else tmp_path / "store/run/checkpoints/step-0000000002.ckpt", 900)
    if where == "there":
        monkeypatch.setenv("REPRISE_CACHE", str(tmp_path / "elsewhere"))
    again = Run.open(str(run))
    assert again.latest()["mine"] == (2 if where == "here" else 1)
    assert len(again.notes) == (where == "there")


def test_what_a_killed_write_left_is_removed_by_the_next_owner(run):
    run.save(1, {"mine": 1})
    left = [run.path / "checkpoints/.step-0000000002.ckpt.1.tmp", run.path / ".status.json.1.tmp"]
    kept = [run.path / "checkpoints/.mine.tmp", run.path / ".notes.txt.1.tmp"]
    for file in left + kept:
        file.touch()
    with pytest.raises(UsageError, match="Another process"):
        Run.open(run.path).lock()
    assert all(file.exists() for file in left), "it is not the owner"
    run.release()
    Run.open(run.path).lock().release()
    assert not any(file.exists() for file in left) and all(file.exists() for file in kept)


def test_the_lock_is_not_held_by_children(run):
    """A child that was forked, as workers that load data are, outlives its parent: the folder is free, and before that it is not."""
    run.release()
    code = f"""
import os, time
from ray_jobs.run.folder import Run
run = Run.open({str(run.path)!r}).lock()
if os.fork() == 0:
    print("locked", flush=True)  # by the child, which may start late
    time.sleep(20)
    os._exit(0)
time.sleep(20)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    try:
        process.stdout.readline()
        with pytest.raises(UsageError, match="Another process"):
            Run.open(run.path).lock()
        process.kill()
        process.wait()
        Run.open(run.path).lock().release()
    finally:
        os.killpg(process.pid, 9)


# ---- metrics


def line(step, **more):
    return json.dumps({"step": step, "time": step / 2, **more}) + "\n"


def test_a_million_lines_are_cut_at_once(run):
    path = run.path / "metrics.jsonl"
    path.write_text("".join(f'{{"step": {n}, "time": {n}.5, "loss": 0.25}}\n' for n in range(1, 1_000_001)))
    start = time.process_time()
    assert Run.open(run.path).elapsed() > 1_000_000
    assert run.last()["step"] == 1_000_000
    run.rewind(999_000)
    assert time.process_time() - start < 0.5
    run.log(999_001, {"loss": 1.0})
    start = time.process_time()
    found = list(run.metrics())
    assert len(found) == 999_001 and found[-2]["step"] == 999_000 and found[-1]["loss"] == 1.0
    assert time.process_time() - start < 30


@pytest.mark.parametrize(
    "end", ["", '{"step": 6, "ti', '{"step": 6, "time": 3.0}', "\n\n", "no\n", '[1]\n{"step": "6", "time": 1}\n']
)
@pytest.mark.parametrize("width", [1, 300, 70_000, 200_000])
@pytest.mark.parametrize("step", [0, 3, 5, 9])
def test_lines_are_cut_as_if_all_were_read(run, end, width, step):
    path = run.path / "metrics.jsonl"
    path.write_text("".join(line(n, x="y" * width) for n in range(1, 6)) + end)
    kept = [m for m in run.metrics() if m["step"] <= step]
    assert [found for found, _ in backwards(path)] == list(run.metrics())[::-1]
    run.rewind(step)
    assert list(run.metrics()) == kept
    run.log(step + 1, {"loss": 1.0})
    assert [m["step"] for m in run.metrics()] == [*(m["step"] for m in kept), step + 1]


def test_a_line_without_an_end_takes_no_memory(run):
    path = run.path / "metrics.jsonl"
    path.write_text(line(1) + "x" * 5 * LONGEST)
    assert [m["step"] for m in run.metrics()] == [1]
    run.rewind(1)
    run.log(2, {"loss": 1.0})
    assert [m["step"] for m in run.metrics()][-1] == 2
