"""Cascades: the noise and blur of low-resolution images by their definitions, and samples of exact stages against closed forms."""

import math

import pytest
import torch
from torch import nn

from datamodules.labs.gauss_pair import GaussPair
from lightning_modules.conditions import Cond
from lightning_modules.diffusion.low_resolution import Twins, blurred, low, noised, time_of
from lightning_modules.diffusion.models.cascade import Cascade, base, super_resolution
from lightning_modules.diffusion.models.edm import edm
from lightning_modules.draws import Draws
from lightning_modules.metrics.gaussian import frechet_floor, frechet_of
from lightning_modules.nets.mlp import ResidualMLP
from lightning_modules.nets.unet import UNet
from lightning_modules.staged import Stage
from tests.lightning_modules.nets.awake import awake

DATA = GaussPair()
N = 2048
REACH = 9.0


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n, *shape, seed=0):
    return torch.randn(n, *shape, generator=rng(seed))


def test_a_twin_has_the_means_of_squares():
    x = images(2, 3, 6, 6)
    found = low(x, 3)
    assert found.shape == (2, 3, 2, 2)
    torch.testing.assert_close(found[1, 2, 1, 0], x[1, 2, 3:, :3].mean())
    assert low(x, 1) is x
    with pytest.raises(ValueError, match="6 x 6 pixels cannot be cut into squares of 4 x 4"):
        low(x, 4)


@pytest.mark.parametrize("s", [0.0, 0.2, 1.0, 30.0])
def test_noise_keeps_the_variance(s):
    z, n = images(2, 1, 4, 4), images(2, 1, 4, 4, seed=1)
    found = noised(z, torch.full((2,), time_of(s)), n)
    torch.testing.assert_close(found, (z + s * n) / (1 + s**2) ** 0.5)
    assert s or torch.equal(found, z)


def test_blur_is_a_gaussian_filter_of_each_images_own_width():
    x, std = images(2, 3, 5, 5), torch.tensor([0.4, 0.6])
    found = blurred(x, std)
    for i, deviation in enumerate(std.tolist()):
        line = [math.exp(-(k**2) / (2 * deviation**2)) for k in (-1, 0, 1)]
        weight = torch.tensor([[a * b for a in line] for b in line]) / sum(line) ** 2
        torch.testing.assert_close(found[i, 1, 2, 3], (x[i, 1, 1:4, 2:5] * weight).sum())
    flat = torch.full((2, 1, 4, 4), 0.7)
    torch.testing.assert_close(blurred(flat, std), flat)


def test_training_adds_noise_of_the_level_that_the_network_is_given():
    z, twins = images(2000, 1, 2, 2), Twins((1, 2, 2), most=1.0)
    x, cond = twins(z, Cond(image=z), Draws(1, 2))
    assert x is z and cond.numbers.shape == (2000, 1)
    assert cond.numbers.min() >= 0 and cond.numbers.max() < time_of(1.0) == pytest.approx(0.5)
    mean, error = cond.numbers.mean(), 0.5 / (12 * 2000) ** 0.5
    assert abs(mean - 0.25) < 5 * error  # uniform; 5 standard errors, 6e-7
    angle = cond.numbers[:, :, None, None] * math.pi / 2
    n = (cond.image - angle.cos() * z) / angle.sin()
    kept = n[cond.numbers[:, 0] > 0.01].flatten()
    assert abs(kept.mean()) < 5 / len(kept) ** 0.5 and abs(kept.var() - 1) < 5 * (2 / len(kept)) ** 0.5


def test_a_power_makes_low_levels_more_frequent():
    """The mean of u^3 is 1/4 and its variance 1/7 - 1/16."""
    z, twins = images(2000, 1, 2, 2), Twins((1, 2, 2), most=1.0, power=3.0)
    mean = twins(z, Cond(image=z), Draws(1, 2))[1].numbers.mean()
    assert abs(mean - 0.5 / 4) < 5 * 0.5 * ((1 / 7 - 1 / 16) / 2000) ** 0.5  # 5 standard errors, 6e-7


def test_two_workers_change_twins_as_one_does():
    z, twins = images(8, 3, 4, 4), Twins((3, 4, 4), blur=0.5)
    _, whole = twins(z, Cond(image=z), Draws(1, 2))
    parts = [twins(half, Cond(image=half), Draws(1, 2, part, 2))[1] for part, half in enumerate(z.chunk(2))]
    assert torch.equal(whole.image, torch.cat([part.image for part in parts]))
    assert torch.equal(whole.numbers, torch.cat([part.numbers for part in parts]))


def test_a_share_of_the_twins_is_blurred_and_none_in_drawing():
    z, twins = images(1000, 1, 4, 4), Twins((1, 4, 4), most=0.0, blur=0.5)
    _, cond = twins(z, Cond(image=z), Draws(1, 2))
    changed = (cond.image != z).flatten(1).any(1)
    assert cond.numbers is None and abs(changed.sum() - 500) < 5 * 250**0.5  # 5 standard deviations, 6e-7
    assert torch.equal(twins.at(Cond(image=z), 0.0).image, z)


def test_drawing_adds_the_noise_that_is_asked_for():
    z, twins = images(3, 1, 4, 4), Twins((1, 4, 4))
    found = twins.at(Cond(image=z), 0.5, rng(3))
    torch.testing.assert_close(found.image, (z + 0.5 * images(3, 1, 4, 4, seed=3)) / 1.25**0.5)
    torch.testing.assert_close(found.numbers, torch.full((3, 1), time_of(0.5)))
    own = twins.with_noise(Cond(image=z), 0.5)
    torch.testing.assert_close(own.image, z / 1.25**0.5)
    torch.testing.assert_close(own.numbers, found.numbers)
    clean = twins.unchanged(Cond(image=z), z)
    assert torch.equal(clean.image, z) and torch.equal(clean.numbers, torch.zeros(3, 1))


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda: Twins((1, 4, 4), most=-1.0), "at least 0, not -1"),
        (lambda: Twins((1, 4, 4), power=0.0), "must be positive, not 0"),
        (lambda: Twins((1, 4, 4), blur=1.5), r"in \[0, 1\], not 1.5"),
        (lambda: Twins((1, 4, 4), most=1.0).check(2.0), "from 0 to 1, as in training, not 2"),
        (lambda: Twins((1, 4, 4)).at(Cond(image=torch.zeros(1, 1, 5, 4)), 0.0), "1 x 4 x 4 .* given images of 1 x 5 x 4"),
        (lambda: Twins((1, 4, 4)).unchanged(Cond(), torch.zeros(1)), "was given none"),
        (lambda: cascade(levels=(0.1, 0.2)), "2 stages has 1 noise levels, not 2"),
        (lambda: cascade(levels=(9.0,)), "from 0 to 2"),
        (lambda: Cascade((Stage("base", exact_base(), 1),)), "at least one super-resolution"),
        (lambda: Cascade((Stage("a", exact_base(), 1), Stage("b", exact_base(), 1))), "must be models of `super_resolution`"),
        (lambda: Cascade((Stage("a", exact_top(), 1), Stage("b", exact_top(), 1))), "draws images of shape"),
        (lambda: cascade().sample(2, Cond(image=torch.zeros(2, 1, 8, 8))), "continues from images of 1 x 4 x 4"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(use, words):
    with pytest.raises(ValueError, match=words):
        use()


class Exact(nn.Module):
    """The network whose denoiser is a function (y, sigma, conditions) -> x0, where it predicts the noise."""

    def __init__(self, denoise):
        super().__init__()
        self.denoise, self.calls = denoise, 0

    def forward(self, inp, level, cond):
        self.calls += 1
        sigma = level.exp()
        wide = sigma.reshape(-1, 1, 1, 1)
        y = inp * (1 + wide**2).sqrt()
        return (y - self.denoise(y, sigma, cond)) / wide


def exact_base(share=1.0):
    """The base of pairs, whose samples have `share` times the variance of the twins."""
    wide = GaussPair()
    wide.low_cov = share * DATA.low_cov
    return base(Exact(lambda y, s, cond: wide.denoise_low(y, s)), DATA.low_shape, clip=False, reach=REACH)


def exact_top():
    def denoise(y, sigma, cond):
        time = 0.0 if cond.numbers is None else cond.numbers[0].item()
        s = math.tan(math.pi / 2 * time)
        return DATA.denoise_given(y, sigma, cond.image * (1 + s**2) ** 0.5, s)

    return super_resolution(base(Exact(denoise), DATA.shape, clip=False, reach=REACH), 2, most=2.0)


def cascade(share=1.0, **options):
    return Cascade((Stage("base", exact_base(share), 1), Stage("top", exact_top(), 1)), **options)


HEUN = {"sampler": "heun", "grid": "karras", "steps": 32, "batch": N}


@pytest.mark.parametrize(
    ("share", "level", "truncated"), [(1.0, 0.0, False), (1.5, 0.2, False), (1.5, 1.0, False), (1.0, 0.5, True)]
)
def test_samples_of_exact_stages_follow_the_closed_law(share, level, truncated):
    """Their distance to the law is that of perfect samples, whose deviation is about 5% of its mean; another law is further away."""
    found = cascade(share, truncated=truncated).sample(N, rng=rng(4), level=level, **HEUN)
    law, other = (DATA.of_cascade(level, share * DATA.low_cov, noised=noised) for noised in (True, False))
    root = torch.linalg.cholesky(law[1])
    floor = frechet_floor(lambda n, g: law[0] + torch.randn(n, 64, generator=g, dtype=torch.float64) @ root.T, law, N)
    assert frechet_of(found, law) < 1.3 * floor
    assert not level or frechet_of(found, other) > 2 * floor


def test_an_image_takes_the_place_of_the_base():
    model, twins = cascade(levels=(0.5,)), DATA.test(3)["low"]
    found = model.sample(3, Cond(image=twins), rng=rng(5), steps=4)
    assert model.base.net.calls == 0
    alone = model.top.sample(3, Cond(image=twins), rng=rng(5), steps=4)
    assert torch.equal(found, alone)  # a true image gets no noise
    other = model.sample(3, Cond(image=twins), rng=rng(5), steps=4, level=0.5)
    generator = rng(5)
    noisy = model.top.learn.augment.at(Cond(image=twins), 0.5, generator)
    assert torch.equal(other, model.top.sample(3, noisy, rng=generator, steps=4))


def small(factor=2, **options):
    net = awake(UNet(1, width=8, multiples=(1, 2), blocks=1, head=8, image=1, numbers=1, classes=2))
    return super_resolution(base(net, (1, 8, 8), label_drop=0.5), factor, **options)


def test_the_loss_is_that_of_noise_prediction_given_the_twin(seeded):
    model, batch = small(blur=0.5), {"x": images(6, 1, 8, 8).clamp(-1, 1), "label": torch.tensor([0, 1] * 3)}
    model.draws, again = Draws(4, 5), Draws(4, 5)
    loss = model.losses(batch)["denoising"]
    _, cond = model.learn.augment(batch["x"], Cond(label=batch["label"], image=low(batch["x"], 2)), again)
    sigma = model.learn.levels(again.uniform(6)).float()
    n = again.normal(*batch["x"].shape)
    cond = cond.hiding({"label": again.uniform(6) < 0.5})
    wide = sigma.reshape(-1, 1, 1, 1)
    answer = model.net((batch["x"] + wide * n) / (1 + wide**2).sqrt(), sigma.log(), cond)
    torch.testing.assert_close(loss, (answer - n).square().mean())


def test_each_stage_trains_at_its_own_size(seeded):
    first = edm(awake(ResidualMLP((1, 4, 4), width=8, depth=1)), (1, 4, 4))
    model = Cascade((Stage("base", first, 2), Stage("top", small(), 2)))
    batch = {"x": images(6, 1, 8, 8).clamp(-1, 1), "label": torch.tensor([0, 1] * 3)}
    for k, part, x in ((0, first, low(batch["x"], 2)), (1, model.top, batch["x"])):
        model.current = k
        model.draws = Draws(1, 2)
        ours = model.losses(batch)
        part.draws = Draws(1, 2)
        assert ours == part.losses(batch | {"x": x})


def test_guidance_keeps_the_image_and_drops_the_label(seeded):
    model, seen = small(), []
    forward = model.net.forward

    def watched(x, level, cond):
        seen.append((cond.label is not None, cond.image is not None, cond.numbers is not None))
        return forward(x, level, cond)

    model.net.forward = watched
    model.sample(2, Cond(label=torch.tensor([0, 1]), image=images(2, 1, 4, 4)), guidance=1.0, steps=1)
    assert sorted(seen) == [(False, True, True), (True, True, True)]
