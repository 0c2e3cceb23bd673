"""`--net unet|dit` in every recipe of diffusion on images: it builds, trains, keeps sizes, and refuses what does not fit."""

import lightning as L
import pytest
import torch

from datamodules.readers.own import read
from lightning_modules.draws import Draws
from lightning_modules.nets.dit import DiT
from lightning_modules.nets.unet import UNet
from lightning_modules.staged import Staged
from ray_jobs.errors import UsageError
from ray_jobs.recipe.loading import names
from ray_jobs.recipe.settings import build, check, known
from ray_jobs.recipe.spec import Spec
from ray_jobs.recipes.diffusion.shared import image_net, transformer
from ray_jobs.train.fit import prepare

RECIPES = (
    "ddpm_digits", "ddpm_mnist", "ddpm_cifar10", "iddpm_digits", "iddpm_cifar10", "edm_fashion", "edm_cifar10",
    "flow_cifar10", "ncsn_cifar10", "adm_digits", "adm_imagenet64", "cfg_digits", "cfg_imagenet64", "ddim_cifar10",
)  # fmt: skip
PLAIN = {"dropout": 0.0, "outputs": 1, "numbers": 0, "bf16": False, "classes": 0}


def test_these_are_all_the_recipes_with_a_choice_of_network():
    assert {name for name in names() if "net" in known(name)} == set(RECIPES)


@pytest.mark.parametrize(("kind", "made"), [("unet", UNet), ("dit", DiT)])
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_either_network(name, kind, made, seeded):
    small = {"net": kind, "width": 8} | ({"classifier_width": 8} if "classifier_width" in known(name) else {})
    model = build(name, small).model
    model = model.last if isinstance(model, Staged) else model
    assert type(model.net) is made
    model.draws = Draws(0, 1)
    x = torch.rand(2, *model.shape) * 2 - 1
    assert model.net(x, torch.zeros(2)).shape[2:] == x.shape[2:]
    loss = sum(model.losses({"x": x, "noise": torch.randn_like(x), "label": torch.tensor([0, 9])}).values())
    loss.backward()
    last = model.net.leave if kind == "unet" else model.net.head.leave
    assert loss.isfinite() and last.weight.grad.abs().sum() > 0


def test_the_network_is_a_unet_unless_another_is_asked_for(seeded):
    data = read("digits")
    L.seed_everything(1, verbose=False)
    made = image_net("unet", data, 8, multiples=(1, 2), blocks=1, head=8, dropout=0.1)
    L.seed_everything(1, verbose=False)
    plain = UNet(1, width=8, multiples=(1, 2), blocks=1, attention=(1,), head=8, dropout=0.1)
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), plain.parameters(), strict=True))
    assert all(known(name)["net"].default == "unet" for name in RECIPES)


@pytest.mark.parametrize(
    ("side", "width", "patch", "features", "heads"),
    [(8, 24, 2, 72, 1), (28, 32, 2, 96, 1), (32, 128, 2, 384, 6), (62, 64, 2, 192, 3), (64, 50, 4, 144, 2), (256, 256, 16, 768, 12)],
)  # fmt: skip
def test_the_transformer_has_the_size_of_the_width(side, width, patch, features, heads):
    with torch.device("meta"):
        net = transformer((3, side, side), width, 1, **PLAIN)
    assert (net.patch, net.width, net.blocks[0].attend.heads) == (patch, features, heads)
    assert (side // patch) ** 2 <= 31**2


def test_squares_of_pixels_make_the_patches_twice_as_large(seeded):
    data = read("shapes")
    nets = [image_net(kind, data, 8, multiples=(1, 2), blocks=1, head=8, patch=2, depth=1) for kind in ("unet", "dit")]
    assert [net.patch for net in nets] == [2, 4]


def test_every_width_makes_a_transformer():
    for width in range(1, 140):
        with torch.device("meta"):
            transformer((1, 8, 8), width, 1, **PLAIN)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": "digits", "net": "dit", "width": 8}, None),
        ({"data": "ising", "net": "dit", "size": 3}, "patches of 2 x 2 .* multiples of 2, such as 4 x 4"),
        ({"data": "ising", "net": "unet", "size": 3}, "halves images 1 time .* multiples of 2, such as 4 x 4"),
        ({"data": "moons", "net": "dit"}, "--net dit is for images"),
        ({"data": "moons"}, None),
    ],
)
def test_sizes_that_do_not_fit_are_refused_when_the_run_is_built(settings, message):
    spec = Spec("ddpm", settings)
    if message is None:
        prepare(spec)
        return
    with pytest.raises(UsageError, match=message):
        prepare(spec)


def test_another_network_is_refused_with_those_that_there_are():
    with pytest.raises(UsageError, match="dit"):
        check("ddpm_digits", {"net": "resnet"})
