"""MNIST and Fashion-MNIST, whole: their counts and ranges, and a few steps of every recipe that names them."""

import dataclasses

import lightning as L
import numpy as np
import pytest
import torch

from datamodules.readers.images import Images
from datamodules.readers.own import HUB, read
from ray_jobs.recipe.spec import Spec
from ray_jobs.train import fit
from ray_jobs.train.sampling import sample
from tests import real_data

SETS = {"mnist": "ylecun/mnist", "fashion": "zalando-datasets/fashion_mnist"}
TRAINED = {
    "ddpm_mnist": {"width": 8, "levels": 25},
    "edm_fashion": {"width": 8},
    "gan_mnist": {"width": 8, "latents": 4},
    "made_mnist": {"width": 20, "orders": 2},
    "vae_mnist": {"width": 8, "latents": 2},
    "vlae_mnist": {"width": 8, "latents": 2, "hidden": 8},
}
"""Recipes of these sets, and settings that make them small."""


@pytest.fixture()
def place(request):
    """The folder of the set that the test names."""
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize(("place", "name"), SETS.items(), indirect=["place"])
def test_the_whole_set_is_there(place, name):
    data = Images(name=name, data_dir=str(place))
    seen, held = data.seen(), data.test()
    assert seen["x"].shape == (60_000, 1, 28, 28) and held["x"].shape == (10_000, 1, 28, 28)
    counts = [part["label"].bincount(minlength=10).tolist() for part in (seen, held)]
    if "fashion" in name:
        assert counts == [[6000] * 10, [1000] * 10]
    else:
        assert counts == [
            [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
            [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
        ]
    for part in (seen, held):
        grey = (part["x"] + 1) * 127.5
        assert grey.min() == 0 and grey.max() == 255 and (grey - grey.round()).abs().max() < 1e-4
    assert (seen["x"].mean().item() + 1) / 2 == pytest.approx({"ylecun/mnist": 0.1307}.get(name, 0.2860), abs=1e-4)


@pytest.mark.parametrize(("place", "name"), SETS.items(), indirect=["place"])
def test_by_one_word_the_folder_is_read_as_it_is(place, name):
    own, known = read(place, kind="images"), Images(name=name, data_dir=str(place))
    assert own.shape == known.shape and torch.equal(own.test(9)["x"], known.test(9)["x"])
    assert name in HUB.values()


@pytest.mark.parametrize("recipe", TRAINED)
def test_a_recipe_trains_on_the_whole_set_and_is_measured(recipe, request, tmp_path):
    """Two steps, measured on the first images that are held out, so that a test takes seconds."""
    place = request.getfixturevalue("fashion" if "fashion" in recipe else "mnist")
    settings = TRAINED[recipe] | {"steps": 2, "batch": 32, "data_dir": str(place), "num_workers": 0}
    made = fit.prepare(Spec(recipe, settings, 0))
    trainer = L.Trainer(
        max_steps=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(made.model, made.data)
    assert trainer.global_step == 2
    assert getattr(made.data, "of", made.data).source.size == 60_000
    whole = made.data.test
    made.data.test = lambda n=None: whole(min(n or 20, 20))
    metrics = fit.evaluate(fit.Trained(made, made.model.eval(), 2), 0)
    assert metrics and all(np.isfinite(value) for value in metrics.values())
    sample(made.model, made.data, tmp_path, 4)
    drawn = np.load(tmp_path / "samples.npy")
    assert drawn.shape == (4, 1, 28, 28) and np.isfinite(drawn).all()


def test_what_cannot_be_fetched_is_one_skip_and_another_file_is_a_failure(tmp_path):
    absent = dataclasses.replace(real_data.MNIST, fetch="no-such-client pack")
    with pytest.raises(pytest.skip.Exception, match=r"MNIST cannot be fetched here .no-such-client: "):
        real_data.folder(absent, tmp_path)
    refused = dataclasses.replace(real_data.MNIST, fetch="cp no-such-file here")
    with pytest.raises(pytest.skip.Exception, match=r"MNIST cannot be fetched here .cp: .*no-such-file"):
        real_data.folder(refused, tmp_path)
    another = dataclasses.replace(real_data.MNIST, fetch="touch mnist.tgz")
    with pytest.raises(pytest.fail.Exception, match="is not the known MNIST"):
        real_data.folder(another, tmp_path)
    assert list(tmp_path.iterdir()) == []
