"""Distances between samples against brute force and theorems."""

import itertools

import pytest
import torch

from datamodules.labs.density2d import grid
from lightning_modules.metrics import likelihood, samples

DOUBLE = torch.float64


def test_a_true_sample_hits_every_mode_and_is_of_the_share_of_the_chi_square():
    """Within three deviations in the plane: 1 - exp(-9/2), within 5 standard errors; half a grid is half the modes."""
    truth = grid()
    x = truth.draw(10_000, torch.Generator().manual_seed(0))
    hit, good = samples.modes(x, truth.mean, 0.08)
    assert hit == 25
    assert good == pytest.approx(0.98889, abs=5 * (0.0109 / 10_000) ** 0.5)
    assert samples.modes(x[x[:, 0] < -0.25], truth.mean, 0.08)[0] == 10
    assert samples.modes(torch.zeros(100, 2), truth.mean, 0.08) == (1, 1.0)


def test_a_mode_is_full_by_half_of_what_it_should_have_within_a_deviation():
    """Even noise over the grid has pi 0.09^2 / 0.5^2 of its examples where 0.39 should be: it fills no mode."""
    truth, rng = grid(), torch.Generator().manual_seed(0)
    x = truth.draw(20_000, rng)
    for keep, expected in ((0.6, 25), (0.4, 24)):
        first = (x - truth.mean[0].float()).norm(dim=1) < 0.25
        kept = ~first | (torch.rand(len(x), generator=rng) < keep)
        padded = torch.cat([x[kept], torch.full(((~kept).sum(), 2), 9.0)])
        assert samples.modes(padded, truth.mean, 0.08, reach=1.0, due=0.5)[0] == expected
    even = torch.rand(10_000, 2, generator=rng) * 2.5 - 1.25
    scores = samples.mixture_scores(even, x[:64], x[64:128], truth.mean.float(), 0.08)
    assert scores["modes_full"] == 0 and scores["modes_hit"] == 25 and scores["high_quality"] < 0.75


@pytest.mark.parametrize("p", [1, 2])
def test_the_exact_distance_is_the_best_of_all_pairings(p):
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(6, 2, generator=rng), torch.randn(6, 2, generator=rng)
    best = min((x - y[list(order)]).norm(dim=1).pow(p).mean() for order in itertools.permutations(range(6)))
    assert samples.wasserstein(x, y, p) == pytest.approx(best.item() ** (1 / p), rel=1e-5)
    shifted = samples.wasserstein(x, x + torch.tensor([3.0, 4.0]), p)
    assert shifted == pytest.approx(5, rel=1e-5)
    with pytest.raises(ValueError, match="equally many"):
        samples.wasserstein(x, y[:3])


def test_mmd_is_unbiased_and_sees_a_shift():
    """Over 200 pairs of samples of one normal, the mean is 0 within 4 standard errors; a shift of N(0, I_D) by a has
    2 (w^2 / (w^2 + 2))^(D/2) (1 - exp(-a^2 / (2 (w^2 + 2))))."""
    rng = torch.Generator().manual_seed(0)
    found = torch.tensor(
        [
            samples.mmd(torch.randn(30, 2, generator=rng), torch.randn(20, 2, generator=rng), width=1.0)
            for _ in range(200)
        ]
    )
    assert abs(found.mean()) < 4 * found.std() / 200**0.5
    x, y = torch.randn(2000, 2, generator=rng), torch.randn(2000, 2, generator=rng) + torch.tensor([1.0, 0.0])
    exact = 2 * (1 / 3) * (1 - torch.tensor(-1 / 6).exp().item())
    assert samples.mmd(x, y, width=1.0) == pytest.approx(exact, rel=0.15)


def test_parzens_density_is_that_of_the_mixture():
    rng = torch.Generator().manual_seed(0)
    x, drawn = torch.randn(7, 2, generator=rng, dtype=DOUBLE), torch.randn(5, 2, generator=rng, dtype=DOUBLE)
    one = torch.distributions.MultivariateNormal(drawn, 0.3**2 * torch.eye(2, dtype=DOUBLE))
    exact = (one.log_prob(x[:, None]).exp().mean(1)).log().mean()
    assert likelihood.parzen(x, drawn, width=0.3) == pytest.approx(exact.item())
