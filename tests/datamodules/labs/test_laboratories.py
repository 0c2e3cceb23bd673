"""Laboratories: their closed forms against automatic differentiation, integration and sampling."""

import math

import pytest
import torch

from datamodules.binary import Binary
from datamodules.labs.density2d import SHAPES, Mixture
from datamodules.labs.gauss_image import GaussImage
from datamodules.readers.digits import LEVELS, Digits

DOUBLE = torch.float64


def plane(reach=3.0, n=201):
    """Points [n^2, 2] of a square, and the area of each."""
    line = torch.linspace(-reach, reach, n, dtype=DOUBLE)
    return torch.cartesian_prod(line, line), (line[1] - line[0]) ** 2


@pytest.mark.parametrize("name", SHAPES)
def test_density_integrates_to_one_and_has_its_moments(name):
    density = SHAPES[name]()
    points, area = plane()
    mass = density.log_prob(points).exp() * area
    mean, cov = density.moments()
    assert mass.sum().item() == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(mass @ points, mean, atol=1e-6, rtol=0)
    torch.testing.assert_close((points - mean).T @ (mass[:, None] * (points - mean)), cov, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", SHAPES)
def test_draws_follow_the_density(name):
    """Mean log density within 5 standard errors of the negative entropy, by integration: one false alarm in a million."""
    density = SHAPES[name]()
    points, area = plane()
    logs = density.log_prob(points)
    entropy = -(logs.exp() * logs).sum() * area
    got = density.log_prob(density.draw(20_000, torch.Generator().manual_seed(0)))
    assert abs(got.mean() + entropy) < 5 * got.std() / 20_000**0.5
    assert density.coverage(density.draw(20_000, torch.Generator().manual_seed(1))) < 0.03
    assert density.coverage(density.mean[:1].repeat(10, 1)) > 0.3


@pytest.mark.parametrize("name", SHAPES)
def test_score_is_the_gradient_of_the_noised_log_density(name):
    density = SHAPES[name]()
    rng = torch.Generator().manual_seed(0)
    s = torch.logspace(-1.5, 1.5, 50, dtype=DOUBLE)
    y = (torch.randn(50, 2, generator=rng, dtype=DOUBLE) * (0.5 + s[:, None])).requires_grad_()
    (gradient,) = torch.autograd.grad(density.log_prob(y, s).sum(), y)
    torch.testing.assert_close(density.score(y, s), gradient)


def test_denoiser_is_the_posterior_mean():
    """Of a small mixture, by integration over the plane."""
    density = SHAPES["pinwheel"]()
    points, _ = plane()
    y, s = torch.tensor([[0.4, -0.2]], dtype=DOUBLE), torch.tensor([0.3], dtype=DOUBLE)
    logs = density.log_prob(points) - (y - points).square().sum(1) / (2 * s**2)
    slow = logs.softmax(0) @ points
    torch.testing.assert_close(density.denoise(y, s)[0], slow, atol=1e-6, rtol=0)


def test_gaussian_agrees_with_torch():
    data = GaussImage(size=4)
    x = data.test(64)["x"]
    truth = torch.distributions.MultivariateNormal(data.mean, data.cov)
    torch.testing.assert_close(data.log_prob(x), truth.log_prob(x.flatten(1).double()))
    assert data.entropy() == pytest.approx(truth.entropy().item())


def test_gaussian_denoiser_is_the_one_of_a_mixture_of_one():
    data = GaussImage(size=3)
    one = Mixture(torch.ones(1, dtype=DOUBLE), data.mean[None], data.cov[None])
    s = torch.logspace(-2, 2, 8, dtype=DOUBLE)
    y = data.test(8)["x"].double() + s[:, None, None, None]
    torch.testing.assert_close(data.denoise(y, s).flatten(1), one.denoise(y.flatten(1), s))
    torch.testing.assert_close(data.score(y, s).flatten(1), one.score(y.flatten(1), s))


def test_gaussian_draws_have_their_moments():
    """The sum of n squared whitened numbers is chi-squared: within 5 standard deviations."""
    data, n = GaussImage(size=4), 20_000
    x = data.draw(n, torch.Generator().manual_seed(0))["x"].flatten(1).double() - data.mean
    squares = torch.linalg.solve(data.cov, x.T).mul(x.T).sum().item()
    assert abs(squares - 16 * n) < 5 * math.sqrt(2 * 16 * n)


def test_digits_are_split_without_overlap():
    data = Digits(batch=64)
    test = data.test()
    assert data.train["x"].shape == (1500, 1, 8, 8)
    assert test["x"].shape == (297, 1, 8, 8)
    assert len(data.test(5)["label"]) == 5
    grey = (torch.cat([data.train["x"], test["x"]]) + 1) * 8
    assert grey.unique().tolist() == list(range(LEVELS))
    rows = {tuple(x.flatten().tolist()) for x in data.train["x"]}
    assert not any(tuple(x.flatten().tolist()) in rows for x in test["x"])


def test_digits_are_the_same_in_every_instance():
    batch = next(iter(Digits(batch=64).train_dataloader()))
    again = next(iter(Digits(batch=64).train_dataloader()))
    assert torch.equal(batch["x"], again["x"])
    assert batch["label"].dtype == torch.long


@pytest.mark.parametrize("levels", [2, 4, 17])
def test_digits_of_fewer_levels(levels):
    x = Digits(levels=levels).test()["x"]
    even = torch.linspace(-1, 1, levels)
    torch.testing.assert_close(x.unique(), even)
    full = Digits().test()["x"]
    assert torch.equal(x.flatten()[full.flatten().argsort(stable=True)].sort()[0], x.flatten().sort()[0])
    if levels == 2:
        assert torch.equal(x, torch.where(full > 0, 1.0, -1.0))


def test_there_are_no_more_levels_than_the_digits_have():
    with pytest.raises(ValueError, match="2 to 17 levels"):
        Digits(levels=18)


def test_black_and_white_of_another_set():
    data, of = Binary(Digits(batch=10)), Digits(batch=10)
    data.setup("fit")
    of.setup("fit")
    for ours, theirs in (
        (data.test(5), of.test(5)),
        (data.source.rows(1, 2, 10, 3, 7), of.source.rows(1, 2, 10, 3, 7)),
    ):
        assert torch.equal(ours["x"] == 1, theirs["x"] > 0) and set(ours["x"].unique().tolist()) == {-1, 1}
        assert torch.equal(ours["label"], theirs["label"])
    assert data.shape == of.shape and data.batch == 10
