"""Distances against closed forms and theorems."""

import pytest
import torch

from lightning_modules.metrics import gaussian as metrics
from lightning_modules.metrics import likelihood, samples

DOUBLE = torch.float64


def gaussian(d, seed):
    rng = torch.Generator().manual_seed(seed)
    a = torch.randn(d, d, generator=rng, dtype=DOUBLE)
    return torch.randn(d, generator=rng, dtype=DOUBLE), a @ a.T


def test_frechet_of_commuting_gaussians_is_the_sum_over_axes():
    a, b = torch.tensor([1.0, 4.0, 0.0], dtype=DOUBLE), torch.tensor([9.0, 4.0, 1.0], dtype=DOUBLE)
    mean = torch.tensor([1.0, 0.0, 2.0], dtype=DOUBLE)
    expected = (mean.square() + (a.sqrt() - b.sqrt()).square()).sum().item()
    assert metrics.frechet(mean, a.diag(), 0 * mean, b.diag()) == pytest.approx(expected)


def test_frechet_is_a_symmetric_square_distance_and_does_not_turn():
    one, two, three = gaussian(5, 0), gaussian(5, 1), gaussian(5, 2)
    there, back = metrics.frechet(*one, *two), metrics.frechet(*two, *one)
    assert there == pytest.approx(back)
    assert metrics.frechet(*one, *one) == pytest.approx(0, abs=1e-9)
    assert there**0.5 <= metrics.frechet(*one, *three) ** 0.5 + metrics.frechet(*three, *two) ** 0.5
    turn, _ = torch.linalg.qr(gaussian(5, 3)[1])
    turned = [(turn @ m, turn @ c @ turn.T) for m, c in (one, two)]
    assert metrics.frechet(*turned[0], *turned[1]) == pytest.approx(there)


def test_floor_falls_as_one_over_n():
    mean, cov = gaussian(4, 0)
    chol = torch.linalg.cholesky(cov)

    def draw(n, rng):
        return mean + torch.randn(n, 4, generator=rng, dtype=DOUBLE) @ chol.T

    floors = [metrics.frechet_floor(draw, (mean, cov), n, repeats=50) for n in (250, 4000)]
    assert floors[0] / floors[1] == pytest.approx(16, rel=0.5)


def test_sliced_distance_of_a_shift_is_its_share_on_a_random_axis():
    """E (direction . shift)^2 = |shift|^2 / D."""
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    shift = torch.tensor([1.0, -2.0, 2.0])
    got = samples.sliced_wasserstein(x, x + shift, directions=20_000, rng=torch.Generator().manual_seed(1))
    assert got == pytest.approx(3, rel=0.05)
    assert samples.sliced_wasserstein(x, x.flip(0)) == 0


def test_excess_and_floor_add_up_to_the_error():
    """Of a standard normal: the exact denoiser is y / (1 + s^2), the floor of the noise's error 1 / (1 + s^2)."""
    x = torch.randn(40_000, 2, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    levels = torch.tensor([0.5, 2.0], dtype=DOUBLE)

    def exact(y, s):
        return y / (1 + s**2)[:, None]

    excess, floor = likelihood.noise_excess(exact, exact, x, levels, rng=torch.Generator().manual_seed(1))
    assert excess == 0
    assert floor == pytest.approx((1 / 1.25 + 1 / 5) / 2, rel=0.03)
    shifted, _ = likelihood.noise_excess(lambda y, s: exact(y, s) + s[:, None], exact, x, levels)
    assert shifted == pytest.approx(1)


def test_excess_is_the_divergence_of_two_normals():
    """KL(N(0, 1) || N(1, 2)) within 4 standard errors: 6 false alarms in 100,000."""
    p, q = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(1.0, 2.0)
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    mean, error = likelihood.excess_nats(q.log_prob, p.log_prob, x, batch=3000)
    assert abs(mean - torch.distributions.kl_divergence(p, q).item()) < 4 * error
    assert error < 0.01
