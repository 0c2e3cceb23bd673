"""Samples of super-resolution models and cascades from images that a user names, and the sentences for images that do not fit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_modules.conditions import Cond
from ray_jobs.errors import UsageError
from ray_jobs.recipe.spec import Spec
from ray_jobs.train import sampling
from ray_jobs.train.drawing import Drawing, low_images, of_held_out
from ray_jobs.train.fit import prepare
from tests.ray_jobs.command import here

OPTIONS = {"data": "digits", "factor": 2, "width": 8, "sample_steps": 2, "drop": 0.5}
KINDS = [{"stage": "upsampler"}, {}]


def picture(path: Path, wide=4, high=4, value=0):
    Image.fromarray(np.full((high, wide), value, dtype=np.uint8)).save(path)
    return path


def made(**settings):
    plan = prepare(Spec("cascade", OPTIONS | settings))
    plan.data.setup("test")
    with torch.no_grad():
        for weight in plan.model.parameters():
            weight.add_(0.1)
    return plan


def test_images_of_a_folder_take_turns(tmp_path):
    picture(tmp_path / "b.png", value=255)
    picture(tmp_path / "a.png", value=0)
    found = low_images(str(tmp_path), (1, 4, 4), 3)
    assert found.shape == (3, 1, 4, 4) and found[:, 0, 0, 0].tolist() == [-1.0, 1.0, -1.0]
    assert low_images(str(tmp_path / "b.png"), (3, 4, 4), 2).mean() == 1


@pytest.mark.parametrize("settings", KINDS)
def test_samples_are_drawn_from_the_image(settings, tmp_path):
    plan = made(**settings)
    how = Drawing(image=str(picture(tmp_path / "low.png", value=64)))
    assert plan.model.image_shape == (1, 4, 4)
    sampling.sample(plan.model, plan.data, tmp_path, 3, how=how)
    cond = Cond(image=torch.full((3, 1, 4, 4), 64 / 127.5 - 1))
    expected = plan.model.sample(3, cond, rng=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(np.load(tmp_path / "samples.npy"), expected.numpy(), atol=1e-4)


def test_without_an_image_super_resolution_starts_from_held_out_ones(tmp_path):
    plan = made(stage="upsampler")
    held = plan.model.conditions(plan.data.test(3))
    found = of_held_out(plan.model, plan.data, None, 3)
    assert torch.equal(found.image, held.image) and torch.equal(found.label, held.label)
    label = torch.tensor([1, 2, 3])
    found = of_held_out(plan.model, plan.data, Cond(label=label), 3)
    assert torch.equal(found.image, held.image) and torch.equal(found.label, label)
    sampling.sample(plan.model, plan.data, tmp_path, 3)
    assert of_held_out(made().model, plan.data, None, 3) is None  # a cascade has its base


@pytest.mark.parametrize("settings", KINDS)
def test_an_image_that_does_not_fit_is_one_sentence_with_the_size_that_does(settings, tmp_path):
    model = made(**settings).model
    for name, words in {
        "large.png": "has 5 x 4 pixels, but this run draws from images of 4 x 4",
        "none.png": "is no file and no folder of images",
    }.items():
        if name == "large.png":
            picture(tmp_path / name, wide=5)
        with pytest.raises(UsageError, match=words):
            Drawing(image=str(tmp_path / name)).options(model, 2)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UsageError, match="cannot be read"):
        Drawing(image=str(tmp_path / "text.png")).options(model, 2)


def test_models_that_draw_from_no_images_refuse_them(tmp_path):
    low = str(picture(tmp_path / "low.png"))
    with pytest.raises(UsageError, match="draws from no low-resolution images: leave --image out"):
        Drawing(image=low).options(made(stage="base").model, 2)
    with pytest.raises(UsageError, match="takes no --level: that is for cascades"):
        Drawing(level=0.2).options(made(stage="base").model, 2)


def test_the_level_reaches_the_cascade(tmp_path):
    plan, drawn = made(), []
    for level in (None, 0.5):
        sampling.sample(plan.model, plan.data, tmp_path, 2, how=Drawing(level=level))
        drawn.append(np.load(tmp_path / "samples.npy"))
        expected = plan.model.sample(2, level=level, rng=torch.Generator().manual_seed(0))
        assert np.array_equal(drawn[-1], expected.numpy())
    assert not np.array_equal(*drawn)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "moons"], "A cascade is for images"),
        (["--data", "digits", "--factor", "3"], "made smaller by 3"),
        (["--data", "digits", "--factor", "2", "--level", "20"], "at most --most 10"),
        (["--data", "digits", "--factor", "8"], "halves images 1 time"),
    ],
)
def test_settings_that_do_not_fit_are_one_sentence(words, message, tmp_path):
    assert message in here("train", "cascade", *words, "--out", tmp_path / "run", code=2)
