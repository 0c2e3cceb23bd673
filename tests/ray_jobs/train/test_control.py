"""`reprise sample RUN --control FILE`: samples follow the picture of a file; other files and other runs are refused in one sentence."""

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.controls import overlap
from lightning_modules.diffusion.models.edm import edm
from lightning_modules.nets.mlp import ResidualMLP
from ray_jobs.errors import UsageError
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.train.control_map import control_map, with_control
from ray_jobs.train.inspect import sample
from ray_jobs.train.launch import launch
from tests.ray_jobs.command import newest

SETTINGS = {"steps": 4, "width": 8, "batch": 4, "sample_steps": 2, "save_every": 4, "warmup": 0}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return launch(
        Spec("controlnet_shapes", SETTINGS, 0, Where(address="local"), str(tmp_path_factory.mktemp("run") / "run"))
    )


def saved(path, shape=(32, 32), mode="L"):
    grey = np.zeros(shape, np.uint8)
    grey[8:20, 4:16] = 255
    Image.fromarray(grey).convert(mode).save(path)
    return str(path)


def drawn(run, name, **options):
    sample(str(run), n=3, name=name, **options)
    return np.load(run.path / f"{name}.npy")


def test_samples_of_a_control_differ_from_others_and_from_none(run, tmp_path):
    state = newest(run.path)["state_dict"]
    assert any(value.abs().sum() > 0 for name, value in state.items() if ".zeros." in name)
    led = drawn(run, "led", control=saved(tmp_path / "a.png"))
    assert led.shape == (3, 3, 32, 32)
    assert not np.array_equal(led, drawn(run, "free"))
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / "none.png")
    assert not np.array_equal(led, drawn(run, "dark", control=str(tmp_path / "none.png")))
    assert np.array_equal(led, drawn(run, "again", control=str(tmp_path / "a.png")))


def test_the_frozen_part_is_bit_equal_in_the_base_and_in_the_controlnet(run):
    state = newest(run.path)["state_dict"]
    base = {name.removeprefix("base.net."): value for name, value in state.items() if name.startswith("base.net.")}
    assert base
    assert all(torch.equal(value, state[f"control.net.base.{name}"]) for name, value in base.items())
    assert any(not torch.equal(value, base[name]) for name, value in copies(state).items())


def copies(state):
    start = "control.net.branch.copy."
    return {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "P", "RGBA"])
def test_a_map_is_the_same_in_any_mode_of_the_file(mode, tmp_path):
    found = control_map(saved(tmp_path / "a.png", mode=mode), (1, 32, 32))
    truth = torch.zeros(1, 32, 32)
    truth[:, 8:20, 4:16] = 1
    assert torch.equal(found, truth) and overlap(found, truth) == 1
    assert torch.equal(control_map(str(tmp_path / "a.png"), (3, 32, 32)), truth.expand(3, -1, -1))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: saved(path, (32, 16)), "has 16 x 32 pixels, but this run follows maps of 32 x 32"),
        (lambda path: "/nowhere.png", "cannot be read"),
        (lambda path: (path.write_text("no picture"), str(path))[1], "corrupt"),
    ],
)
def test_a_file_that_cannot_be_followed_is_refused_in_one_sentence(make, words, run, tmp_path):
    with pytest.raises(UsageError, match=words) as error:
        sample(str(run), n=2, control=make(tmp_path / "a.png"))
    assert "\n" not in str(error.value)


def test_another_model_takes_no_control(tmp_path):
    other = edm(ResidualMLP((2,), width=4, depth=1), (2,))
    assert with_control({"steps": 3}, "", other, 2) == {"steps": 3}
    with pytest.raises(UsageError, match="takes no --control"):
        with_control({}, saved(tmp_path / "a.png"), other, 2)
