"""Samplers with an exact denoiser draw exactly known Gaussians."""

from itertools import pairwise

import pytest
import torch

from lightning_modules.diffusion import guidance, samplers, schedules
from lightning_modules.diffusion.steps import reverse

STD = 0.7
MEAN = 0.3


def exact(y, s):
    level = s[:, None]
    return (STD**2 * y + level**2 * MEAN) / (STD**2 + level**2)


def predicted_variance(grid, variance):
    """Of the last y of an ancestral chain with the exact denoiser: each step is affine, its variance follows by hand."""
    v = grid[0] ** 2 + 1
    for s, r in pairwise(grid):
        gain = STD**2 / (STD**2 + s**2) * (1 - r**2 / s**2) + r**2 / s**2
        v = gain**2 * v + (variance(s, r) if r > 0 else 0)
    return v.item()


@pytest.mark.parametrize("variance", [schedules.posterior, schedules.forward])
@pytest.mark.parametrize("steps", [20, 200])
def test_ancestral_chain_has_the_variance_computed_by_hand(variance, steps):
    """|error| < 5 standard errors: a false alarm once in a million."""
    n, rng = 50_000, torch.Generator().manual_seed(0)
    grid = schedules.spaced(schedules.linear(200, 5e-4, 0.1), steps)
    y = samplers.start(torch.empty(n, 1, dtype=torch.float64), grid, data_std=1.0, rng=rng)
    x = samplers.ancestral(reverse(exact, variance), y, grid, rng=rng)
    expected = predicted_variance(grid, variance)
    assert abs(x.var().item() - expected) < 5 * expected * (2 / n) ** 0.5
    assert abs(x.mean().item() - MEAN) < 5 * (expected / n) ** 0.5 + 0.01


def test_full_ancestral_chain_reaches_the_data():
    """The chain's own variance, without sampling error, is that of the data within the steps' discretisation."""
    assert predicted_variance(schedules.spaced(schedules.linear(), 1000), schedules.forward) == pytest.approx(
        STD**2, rel=2e-3
    )


@pytest.mark.parametrize(("sampler", "n", "tolerance"), [(samplers.heun, 64, 5e-3), (samplers.ddim, 512, 1e-2)])
def test_deterministic_samplers_follow_the_exact_flow(sampler, n, tolerance):
    """The probability flow of a Gaussian maps y at s to mean + (y - mean) std / sqrt(std^2 + s^2)."""
    grid, y = schedules.karras(n), torch.linspace(-100, 100, 9, dtype=torch.float64)[:, None]
    expected = MEAN + (y - MEAN) * STD / (STD**2 + grid[0] ** 2).sqrt()
    torch.testing.assert_close(sampler(exact, y, grid), expected, atol=tolerance, rtol=0)


def test_heun_is_of_second_order():
    y = torch.tensor([[50.0]], dtype=torch.float64)
    true = MEAN + (y - MEAN) * STD / (STD**2 + schedules.karras(8)[0] ** 2).sqrt()
    errors = [(samplers.heun(exact, y, schedules.karras(n)) - true).abs().item() for n in (64, 128)]
    assert errors[0] / errors[1] > 3


def test_eta_one_is_ancestral():
    grid, y = schedules.spaced(schedules.linear(), 10), torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    one = samplers.ddim(exact, y, grid, eta=1.0, rng=torch.Generator().manual_seed(1))
    two = samplers.ancestral(reverse(exact, schedules.posterior), y, grid, rng=torch.Generator().manual_seed(1))
    torch.testing.assert_close(one, two)


def test_guidance_extrapolates_and_clipping_clips():
    cond, null = (lambda y, s: y + 1), (lambda y, s: y)
    y, s = torch.zeros(3, 2), torch.ones(3)
    assert (guidance.guided(cond, null, 0.0)(y, s) == 1).all()
    assert (guidance.guided(cond, null, 2.0)(y, s) == 3).all()
    assert (guidance.clipped(guidance.guided(cond, null, 2.0))(y, s) == 1).all()
