"""Likelihoods and the variational bound against closed forms."""

import math

import pytest
import torch

from datamodules.labs.gauss_image import GaussImage
from lightning_modules import objectives
from lightning_modules.diffusion import bound, schedules
from lightning_modules.diffusion.steps import Gaussian, reverse

DOUBLE = torch.float64


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("std", [1e-3, 0.01, 0.3, 5.0])
@pytest.mark.parametrize("mean", [-1.3, -0.2, 0.0, 0.99])
def test_discretised_gaussian_sums_to_one(levels, std, mean):
    x = torch.linspace(-1, 1, levels, dtype=DOUBLE)
    mean, std = torch.tensor(mean, dtype=DOUBLE), torch.tensor(std, dtype=DOUBLE)
    logs = objectives.discretised_gaussian_log_prob(x, mean, std, levels)
    assert torch.logsumexp(logs, 0).item() == pytest.approx(0, abs=1e-9)
    assert not logs.isnan().any()


def test_discretised_gaussian_is_a_difference_of_distribution_functions():
    x, mean, std = torch.tensor(0.5, dtype=DOUBLE), torch.tensor(0.4, dtype=DOUBLE), torch.tensor(0.2, dtype=DOUBLE)
    cut = torch.distributions.Normal(mean, std)
    slow = (cut.cdf(x + 1 / 16) - cut.cdf(x - 1 / 16)).log()
    torch.testing.assert_close(objectives.discretised_gaussian_log_prob(x, mean, std, 17), slow)


def test_kl_is_that_of_torch():
    a, b = torch.distributions.Normal(0.3, 0.5), torch.distributions.Normal(-1.0, 2.0)
    ours = objectives.gaussian_kl(*(torch.tensor(v) for v in (0.3, 0.25, -1.0, 4.0)))
    torch.testing.assert_close(ours, torch.distributions.kl_divergence(a, b))


def test_a_fair_coin_costs_a_bit():
    assert objectives.bits_per_dim(torch.tensor([8 * math.log(0.5)]), 8).item() == pytest.approx(1)


def exact_bound(data, x, levels, *, denoise=None, variance=schedules.posterior, terms=None):
    step, rng = reverse(denoise or data.denoise, variance), torch.Generator().manual_seed(1)
    return bound.log_prob_bound(
        step, x, levels, decoder=objectives.gaussian_log_prob, data_std=1.0, terms=terms, rng=rng
    )


@pytest.mark.parametrize(("terms", "error"), [(None, 0.2), (12, 0.3)])
@pytest.mark.parametrize("variance", [schedules.posterior, schedules.forward])
def test_exact_denoiser_reaches_the_best_bound(terms, error, variance):
    """Within 4 standard errors of the closed form: a false alarm in 16,000."""
    data, levels = GaussImage(size=4), schedules.linear(100, 1e-3, 0.2)
    x = data.draw(4000, torch.Generator().manual_seed(0))["x"].double()
    nats = exact_bound(data, x, levels, terms=terms, variance=variance)
    assert abs(nats.mean().item() - data.best_bound(levels, variance)) < 4 * nats.std().item() / len(x) ** 0.5
    assert nats.std().item() / len(x) ** 0.5 < error


def test_a_worse_denoiser_loses():
    data, levels = GaussImage(size=4), schedules.linear(100, 1e-3, 0.2)
    x = data.draw(500, torch.Generator().manual_seed(0))["x"].double()
    best = exact_bound(data, x, levels).mean()
    worse = exact_bound(data, x, levels, denoise=lambda y, s: 0.9 * data.denoise(y, s))
    assert worse.mean() < best - 1


def test_bound_is_below_the_likelihood_and_closes_with_finer_steps():
    data = GaussImage(size=4)
    gaps = [-data.entropy() - data.best_bound(schedules.linear(n, 0.1 / n, 20 / n)) for n in (100, 1000, 10000)]
    assert gaps[0] > gaps[1] > gaps[2] > 0


def test_forward_variance_costs_the_kl_of_the_variances():
    """With x0 known exactly only the gap of the variances is left."""
    s, r = torch.tensor([0.5], dtype=DOUBLE), torch.tensor([0.3], dtype=DOUBLE)
    x = torch.zeros(1, 6, dtype=DOUBLE)
    true, ours = schedules.posterior(s, r), schedules.forward(s, r)
    got = bound.step_term(reverse(lambda y, level: x, schedules.forward), x, s, r, torch.ones_like(x))
    normal = torch.distributions.Normal
    expected = 6 * torch.distributions.kl_divergence(normal(0, true.sqrt()), normal(0, ours.sqrt()))
    torch.testing.assert_close(got, expected)


def test_prior_term_is_the_kl_of_the_last_level():
    x, s = torch.tensor([[0.5, -1.0]], dtype=DOUBLE), torch.tensor(3.0, dtype=DOUBLE)
    last = torch.distributions.Normal(x / 10**0.5, (0.9) ** 0.5)
    expected = torch.distributions.kl_divergence(last, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(bound.prior_term(x, s), expected)
    prior = torch.distributions.Normal(0.0, (0.5**2 + s**2).sqrt())
    expected = torch.distributions.kl_divergence(torch.distributions.Normal(x, s), prior).sum(1)
    torch.testing.assert_close(bound.prior_term(x, s, data_std=0.5), expected)


@pytest.mark.parametrize("last", [0.04, 0.0])
def test_the_decoder_has_the_last_steps_variance_or_the_forward_one(last):
    x, s, zero = (
        torch.tensor([[0.5, -1.0]], dtype=DOUBLE),
        torch.tensor(0.3, dtype=DOUBLE),
        torch.zeros((), dtype=DOUBLE),
    )
    got = bound.decoder_term(
        lambda y, a, b: Gaussian(y, torch.full_like(y, last)), x, s, x, objectives.gaussian_log_prob
    )
    std = last**0.5 or schedules.forward(s, zero).sqrt()
    torch.testing.assert_close(got, -torch.distributions.Normal(x + s * x, std).log_prob(x).sum(1))


@pytest.mark.parametrize("distance", [0.5, 1.0, 1.8])
def test_both_tails_of_the_discretised_gaussian_keep_their_digits(distance):
    """Mirrored arguments have equal logarithms, also where the probability is below the least float."""
    x, std = torch.tensor([0.875, -0.875], dtype=DOUBLE), torch.tensor(0.02, dtype=DOUBLE)
    mean = x - distance * x.sign()
    right, left = objectives.discretised_gaussian_log_prob(x, mean, std, 17)
    assert right.isfinite()
    assert right.item() == pytest.approx(left.item(), rel=1e-9)
