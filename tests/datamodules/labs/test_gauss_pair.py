"""Pairs of Gaussian images: posteriors against conditioning written out, distances against the closed forms of the method's sheet."""

import pytest
import torch

from datamodules.labs.gauss_pair import GaussPair
from lightning_modules.diffusion.low_resolution import low
from lightning_modules.metrics.gaussian import frechet

DATA = GaussPair()


def test_the_twin_is_the_mean_of_squares():
    batch = DATA.test(8)
    assert batch["low"].shape == (8, 1, 4, 4)
    torch.testing.assert_close(batch["low"], low(batch["x"], 2))
    noise = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(noise.flatten(1) @ DATA.means.T, low(noise, 2).flatten(1))


@pytest.mark.parametrize("s", [0.0, 0.2, 1.0])
def test_the_posteriors_are_those_of_a_joint_gaussian(s):
    """x, z_s and y = x + sigma n are jointly normal: condition on what is seen by the block formula."""
    rng, sigma, eye = torch.Generator().manual_seed(1), 0.7, torch.eye(64, dtype=torch.float64)
    z_s = torch.randn(2, 1, 4, 4, generator=rng, dtype=torch.float64)
    y = torch.randn(2, 1, 8, 8, generator=rng, dtype=torch.float64)
    a, cov = DATA.means, DATA.cov
    seen = torch.cat([a, eye])
    noise = torch.block_diag(s**2 * torch.eye(16, dtype=torch.float64), sigma**2 * eye)
    gap = torch.cat([z_s.flatten(1), y.flatten(1)], 1) - seen @ DATA.mean
    exact = DATA.mean + gap @ torch.linalg.solve(seen @ cov @ seen.T + noise, seen @ cov)
    found = DATA.denoise_given(y, torch.full((2,), sigma, dtype=torch.float64), z_s, s)
    torch.testing.assert_close(found.flatten(1), exact, atol=1e-9, rtol=0)
    mean, left = DATA.given(z_s, s)
    k = torch.linalg.solve(a @ cov @ a.T + noise[:16, :16], a @ cov)
    torch.testing.assert_close(mean, DATA.mean + gap[:, :16] @ k, atol=1e-9, rtol=0)
    torch.testing.assert_close(left, cov - cov @ a.T @ k, atol=1e-9, rtol=0)


def test_the_denoiser_of_twins_is_exact():
    y, sigma = torch.ones(1, 1, 4, 4, dtype=torch.float64), torch.tensor([0.3], dtype=torch.float64)
    k = torch.linalg.solve(DATA.low_cov + 0.3**2 * torch.eye(16, dtype=torch.float64), DATA.low_cov)
    exact = DATA.low_mean + (y.flatten(1) - DATA.low_mean) @ k
    torch.testing.assert_close(DATA.denoise_low(y, sigma).flatten(1), exact, atol=1e-9, rtol=0)


def distance(s, share=1.0, **options):
    return frechet(*DATA.of_cascade(s, share * DATA.low_cov, **options), DATA.mean, DATA.cov)


def test_distances_of_cascades_have_their_closed_forms():
    assert all(distance(s) < 1e-9 for s in (0.0, 0.2, 0.5, 1.0))  # an exact base needs no augmentation
    training_only = [distance(s, noised=False) for s in (0.2, 0.5)]
    assert training_only == pytest.approx([0.067, 0.199], abs=6e-4)
    too_wide = [distance(s, 1.5) for s in (0.0, 0.2, 0.5, 1.0)]
    assert too_wide == pytest.approx([0.728, 0.428, 0.100, 0.007], abs=6e-4)


def test_an_odd_size_is_refused():
    with pytest.raises(ValueError, match="size is 7"):
        GaussPair(size=7)
