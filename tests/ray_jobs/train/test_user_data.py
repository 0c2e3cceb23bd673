"""Images of a user in a training: one that cannot be read, a row without one, a folder that moves, a kill while processes load."""

import json
import shutil

import datasets
import pytest
import torch
from PIL import Image

from ray_jobs.run.folder import Run
from tests.ray_jobs.command import here, newest, start, wait_for

SMALL = ("--batch", 4, "--width", 8, "--log_every", 1)


@pytest.fixture()
def photos(tmp_path):
    """A folder of 8 images to train on and 4 held out."""
    noise = torch.Generator().manual_seed(0)
    for part, n in (("train", 8), ("test", 4)):
        (tmp_path / "photos" / part).mkdir(parents=True)
        for k in range(n):
            pixels = torch.randint(256, (32, 32, 3), dtype=torch.uint8, generator=noise)
            Image.fromarray(pixels.numpy()).save(tmp_path / "photos" / part / f"{k:02d}.png")
    return tmp_path / "photos"


def words(photos, out, *more):
    return ("train", "dcgan_cifar10", "--data_dir", photos, *SMALL, "--out", out, *more)


@pytest.mark.parametrize("processes", [0, 4])
def test_an_image_that_cannot_be_read_is_named_in_one_sentence(processes, photos, tmp_path):
    (photos / "train/05.png").write_bytes(b"")
    said = here(*words(photos, tmp_path / "run", "--steps", 3, "--num_workers", processes, "-q"), code=2)
    assert said.count("\n") == 1 and "train/05.png" in said, said


def test_a_row_without_an_image_is_named_in_one_sentence(photos, tmp_path):
    table = tmp_path / "table"
    table.mkdir()
    for part, hole in (("train", 2), ("test", None)):
        files = sorted((photos / part).iterdir())
        columns = {
            "img": [None if k == hole else {"bytes": file.read_bytes(), "path": None} for k, file in enumerate(files)],
            "label": [0] * len(files),
        }
        datasets.Dataset.from_dict(columns).to_parquet(str(table / f"{part}-00000.parquet"))
    said = here(*words(table, tmp_path / "run", "--steps", 3, "--num_workers", 0, "-q"), code=2)
    assert said.count("\n") == 1 and "no image in row 2 of" in said, said


@pytest.mark.parametrize("verb", ["evaluate", "resume"])
def test_data_that_moved_are_one_sentence_and_are_found_where_the_user_says(verb, photos, tmp_path):
    run = tmp_path / "run"
    here(*words(photos, run, "--steps", 4, "--num_workers", 0, "-q"))
    if verb == "resume":
        shutil.rmtree(run / "checkpoints")
        (run / "result.json").unlink()
    photos.rename(tmp_path / "pictures")
    said = here(verb, run, code=2)
    assert said.count("\n") == 1 and str(photos) in said and "--data_dir" in said, said
    here(verb, run, "--data_dir", tmp_path / "pictures")
    assert json.loads((run / "result.json").read_text())["step"] == 4


@pytest.mark.fault("process", "a run whose images are loaded by other processes is killed, and resumed at once")
def test_a_folder_is_free_at_once_when_its_run_is_killed(photos, tmp_path, fault):
    run = tmp_path / "run"
    with start(*words(photos, run, "--steps", 100_000, "--save_every", 1)) as process:
        wait_for(lambda: list(run.glob("checkpoints/*.ckpt")), process)
        process.kill()
        process.wait()
        at = Run(run).metrics()
        at = max(line["step"] for line in at)
        with start("resume", run) as again:
            wait_for(lambda: "continuing from step" in (run / "log.txt").read_text(), again)
            step = newest(run)["global_step"]
    fault.saw((run / "log.txt").read_text(), "continuing from step")
    fault.lost(max(0, at - step), 1)
    fault.unequal("the resumed run is stopped again: others compare bits")
