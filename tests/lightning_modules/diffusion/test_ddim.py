"""DDIM as a model: its grids, its noise, the way to the latents and back in closed form, interpolation, and what it refuses."""

import math

import pytest
import torch
from torch import nn

from datamodules.labs.gauss_image import GaussImage
from lightning_modules.diffusion import schedules
from lightning_modules.diffusion.models.ddim import DDIM
from lightning_modules.diffusion.models.ddpm import ddpm
from lightning_modules.model import Shows
from lightning_modules.nets.mlp import ResidualMLP

DOUBLE = torch.float64
V = 0.3
"""Variance of the data."""
TABLE = schedules.linear(200, 5e-4, 0.1)


class ExactNoise(nn.Module):
    """The noise of N(0, V)."""

    def __init__(self):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, x, level, cond):
        s = level.exp().reshape(-1, *[1] * (x.ndim - 1))
        return s * x * (1 + s**2).sqrt() / (V + s**2) + self.anchor


def exact(shape=(1,), **more):
    return DDIM(ExactNoise(), shape, levels=TABLE, **more).double()


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def test_the_noise_of_the_steps_is_of_equation_16():
    """sigma_t of the paper, by its alphas (our alpha-bar), for one step with eta = 0.6 from the same noise; then the end without noise."""
    eta, model = 0.6, exact(eta=0.6, steps=2)
    s, r, _ = model.draw.grid(2)
    drawn = model.sample(5, rng=torch.Generator().manual_seed(0))
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(5, 1, dtype=DOUBLE, generator=rng)
    for bar, bar_next in ((1 / (1 + s**2), 1 / (1 + r**2)), (1 / (1 + r**2), torch.ones((), dtype=DOUBLE))):
        e = (1 - bar).sqrt() * x / (V * bar + 1 - bar)
        sigma = eta * ((1 - bar_next) / (1 - bar)).sqrt() * (1 - bar / bar_next).sqrt()
        x0 = (x - (1 - bar).sqrt() * e) / bar.sqrt()
        x = bar_next.sqrt() * x0 + (1 - bar_next - sigma**2).sqrt() * e
        if bar_next < 1:
            x = x + sigma * torch.randn(5, 1, dtype=DOUBLE, generator=rng)
    torch.testing.assert_close(drawn, x, rtol=1e-10, atol=0)


def test_with_all_noise_it_is_ddpm_and_with_none_it_repeats_itself():
    ours, theirs = exact(eta=1.0, steps=20), ddpm(ExactNoise(), (1,), levels=TABLE).double()
    draws = [m.sample(6, steps=20, rng=torch.Generator().manual_seed(1)) for m in (ours, theirs)]
    torch.testing.assert_close(*draws)
    y = normal(6, 1) * 100
    assert torch.equal(exact().decode(y), exact().decode(y))


@pytest.mark.parametrize("spacing", ["spaced", "trailing", "quadratic"])
def test_the_whole_chain_is_the_product_of_its_gains(spacing):
    """y -> (v + s r) / (v + s^2) y in each step from s to r, on the levels of the spacing."""
    model = exact(spacing=spacing, steps=12)
    grid = model.draw.grid(12)
    s, r = grid[:-1], grid[1:]
    y = normal(4, 1)
    torch.testing.assert_close(model.decode(y), y * ((V + s * r) / (V + s**2)).prod(), rtol=1e-12, atol=0)


def test_the_error_of_the_chain_halves_when_the_steps_double():
    """Of the exact flow, whose gain is sqrt(V / (V + s^2))."""
    errors = []
    for n in (100, 200):
        model = DDIM(ExactNoise(), (1,), levels=schedules.linear(1000), steps=n).double()
        top = model.draw.grid(n)[0]
        gain = model.decode(torch.ones(1, 1, dtype=DOUBLE)).item()
        errors.append(abs(gain / (V / (V + top**2)).sqrt().item() - 1))
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.1)


def test_the_way_to_the_latents_and_back_is_known():
    """A step up from r to s and down again multiplies y by 1 - v (s - r)^2 / ((v + s^2) (v + r^2)); the first step up takes the noise of
    the lowest level l, so that x comes back times (1 + l^2 / (v + l^2)) v / (v + l^2)."""
    model, x = exact(steps=30), normal(5, 1)
    grid = model.draw.grid(30)
    s, r, low = grid[:-2], grid[1:-1], grid[-2]
    factor = (1 - V * (s - r) ** 2 / ((V + s**2) * (V + r**2))).prod()
    factor = factor * (1 + low**2 / (V + low**2)) * V / (V + low**2)
    torch.testing.assert_close(model.decode(model.encode(x)), factor * x, rtol=1e-10, atol=0)


def test_more_steps_bring_back_more():
    model, x = exact(), normal(200, 1)
    errors = [
        (model.decode(model.encode(x, steps=n), steps=n) - x).square().mean().item() for n in (10, 20, 50, 100, 200)
    ]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-3


def test_latents_are_normal_and_between_them_lengths_are_kept():
    """The latents of the data have the variance of the prior, 1 + s^2, up to the part v / s^2 that the table leaves (and the steps')."""
    model = exact((40,), steps=200)
    a, b = model.latents(2, torch.Generator().manual_seed(0)), model.latents(2, torch.Generator().manual_seed(1))
    assert a.square().mean().sqrt().item() == pytest.approx(TABLE[-1].item(), rel=0.3)
    ways = model.between(a, b, 5)
    assert ways.shape == (2, 5, 40)
    torch.testing.assert_close(ways[:, 0], model.decode(a))
    torch.testing.assert_close(ways[:, 4], model.decode(b))
    angle = torch.cosine_similarity(a, b)[:, None].acos()
    half = (a + b) * (angle / 2).sin() / angle.sin()
    torch.testing.assert_close(ways[:, 2], model.decode(half))


def test_quadratic_steps_are_those_of_the_authors_code_without_repeats():
    """int(t) for t in linspace(0, sqrt(0.8 T), S)^2."""
    table = schedules.linear(1000)
    expected = sorted({int((math.sqrt(800) * k / 99) ** 2 + 1e-9) for k in range(100)}, reverse=True)
    grid = schedules.quadratic(table, 100, once=True)
    assert grid.tolist() == [*(table[i].item() for i in expected), 0.0]
    assert len(expected) < 100
    torch.testing.assert_close(schedules.quadratic(TABLE, 10, once=True), schedules.quadratic(TABLE, 10))


def test_it_shows_ways_between_latents_and_what_comes_back():
    data = GaussImage(size=4)
    model = exact(data.shape, steps=10)
    assert isinstance(model, Shows)
    data.test_was = data.test
    data.test = lambda n=None: {"x": data.test_was(n)["x"].double()}
    shown = model.pictures(data, torch.Generator().manual_seed(0))
    assert {name: x.shape for name, x in shown.items()} == {
        "interpolation": (64, 1, 4, 4), "reconstruction": (64, 1, 4, 4),
    }  # fmt: skip
    x, back = shown["reconstruction"][0::2], shown["reconstruction"][1::2]
    assert torch.equal(x, data.test(32)["x"])
    assert (back - x).abs().max() < x.abs().max()


def test_clipping_is_for_samples_alone(seeded):
    net = ResidualMLP((2,), width=8, depth=1)
    nn.init.normal_(net.leave.weight, std=0.5)
    model = DDIM(net, (2,), levels=TABLE, clip=True, steps=5)
    assert model.sample(64, rng=torch.Generator().manual_seed(0)).abs().max() <= 1
    y = model.latents(64, torch.Generator().manual_seed(0))
    assert model.decode(y).abs().max() > 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eta": 1.5}, "from 0 .none. to 1 .DDPM's., not 1.5"),
        ({"eta": -0.1}, "not -0.1"),
        ({"spacing": "even"}, "no spacing 'even' of steps; there are spaced, trailing, quadratic"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        exact(**settings)


def test_more_steps_than_levels_are_refused():
    model = exact()
    for ask in (lambda: model.sample(1, steps=201), lambda: model.encode(normal(1, 1), steps=0)):
        with pytest.raises(ValueError, match="200 noise levels"):
            ask()
    with pytest.raises(ValueError, match="shape"):
        model.encode(normal(1, 2))
