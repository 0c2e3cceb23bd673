"""The diffusion parts against the paper's formulae and against exact denoisers."""

import pytest
import torch

from lightning_modules.diffusion import preconditioning, schedules, targets, weighting
from lightning_modules.diffusion.samplers.chain import lerp

ALL = [
    preconditioning.noise,
    preconditioning.clean,
    preconditioning.velocity,
    preconditioning.score,
    preconditioning.flow,
    preconditioning.edm,
    preconditioning.consistency,
]
DOUBLE = torch.float64


def exact(y, s, std=0.7, mean=0.3):
    """The posterior mean of N(mean, std^2) examples."""
    level = preconditioning.append_dims(s, y)
    return (std**2 * y + level**2 * mean) / (std**2 + level**2)


@pytest.mark.parametrize("predict", ALL, ids=lambda f: f.__name__)
def test_every_parameterisation_expresses_the_exact_denoiser(predict, seeded):
    y, s = torch.randn(64, 3, dtype=DOUBLE), torch.rand(64, dtype=DOUBLE) * 5 + 0.05
    skip, out, inp = (preconditioning.append_dims(a, y) for a in predict(s))
    ideal = preconditioning.denoiser(lambda z, level: (exact(z / inp, level) - skip * z / inp) / out, predict)
    torch.testing.assert_close(ideal(y, s), exact(y, s))


def test_raw_targets_are_what_the_names_say(seeded):
    """A denoiser that answers x0 needs F = n, x0, v = alpha n - sigma x0, -n, n - x0."""
    x0, n, s = torch.randn(3, 50, dtype=DOUBLE)
    s = s.abs() + 0.1
    alpha, sigma = (1 + s**2).rsqrt(), s * (1 + s**2).rsqrt()
    raw = {preconditioning.noise: n, preconditioning.clean: x0, preconditioning.velocity: alpha * n - sigma * x0}
    raw |= {preconditioning.score: -n, preconditioning.flow: n - x0}
    for predict, target in raw.items():
        skip, out, _ = predict(s)
        torch.testing.assert_close(skip * (x0 + s * n) + out * target, x0)


def test_consistency_is_the_identity_at_the_least_level():
    skip, out, _ = preconditioning.consistency(torch.tensor([0.002], dtype=DOUBLE))
    assert skip.item() == 1
    assert out.item() == 0


def test_edm_input_and_target_have_unit_variance():
    s = torch.logspace(-2, 2, 9, dtype=DOUBLE)
    skip, out, inp = preconditioning.edm(s)
    torch.testing.assert_close(inp**2 * (0.25 + s**2), torch.ones_like(s))
    torch.testing.assert_close(((1 - skip) ** 2 * 0.25 + (skip * s) ** 2) / out**2, torch.ones_like(s))


def test_simple_weight_gives_the_error_of_the_noise(seeded):
    x0, n, s = torch.randn(8, 5), torch.randn(8, 5), torch.rand(8) + 0.1
    denoise = preconditioning.denoiser(lambda z, _: torch.tanh(z), preconditioning.noise)
    scaled = (x0 + s[:, None] * n) / (1 + s[:, None] ** 2).sqrt()
    got = targets.denoising_loss(denoise, x0, s, n, weighting.simple(s))
    torch.testing.assert_close(got, (torch.tanh(scaled) - n).square().mean(1))


def test_weights_are_the_papers():
    s = torch.tensor([0.1, 1.0, 10.0], dtype=DOUBLE)
    snr = 1 / s**2
    torch.testing.assert_close(weighting.min_snr(s), torch.minimum(snr, torch.full_like(snr, 5)))
    torch.testing.assert_close(weighting.truncated_snr(s), torch.maximum(snr, torch.ones_like(snr)))
    _, out, _ = preconditioning.edm(s)
    torch.testing.assert_close(weighting.edm(s) * out**2, torch.ones_like(s))


@pytest.mark.parametrize("t", [1, 2, 500, 999])
def test_a_step_is_the_papers_posterior(t, seeded):
    """Mean and variance of q(x_{t-1} | x_t, x0), eq. 7, reached from y = x / sqrt(alpha-bar)."""
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=DOUBLE)
    bar = (1 - beta).cumprod(0)
    x0, xt = torch.randn(2, dtype=DOUBLE)
    mean = bar[t - 1].sqrt() * beta[t] / (1 - bar[t]) * x0 + (1 - beta[t]).sqrt() * (1 - bar[t - 1]) / (1 - bar[t]) * xt
    s, r = schedules.linear()[t], schedules.linear()[t - 1]
    ours = lerp(x0, xt / bar[t].sqrt(), r**2 / s**2) * bar[t - 1].sqrt()
    torch.testing.assert_close(ours, mean)
    torch.testing.assert_close(schedules.posterior(s, r) * bar[t - 1], (1 - bar[t - 1]) / (1 - bar[t]) * beta[t])
    torch.testing.assert_close(schedules.forward(s, r) * bar[t - 1], beta[t])


def test_cosine_keeps_the_papers_signal():
    u = (torch.arange(1, 901, dtype=DOUBLE) / 1000 + 0.008) / 1.008 * torch.pi / 2
    first = torch.cos(torch.tensor(0.008 / 1.008 * torch.pi / 2, dtype=DOUBLE))
    torch.testing.assert_close(1 / (1 + schedules.cosine()[:900] ** 2), (u.cos() / first) ** 2)


@pytest.mark.parametrize("table", [schedules.linear(), schedules.cosine()], ids=["linear", "cosine"])
def test_tables_and_grids_are_monotone(table):
    assert (table.diff() > 0).all()
    for n in (1, 7, 50, 1000):
        grid = schedules.spaced(table, n)
        assert len(grid) == n + 1
        assert grid[-1] == 0
        assert (grid.diff() < 0).all()
    assert schedules.spaced(table, 7)[0] == table[-1]


@pytest.mark.parametrize("n", [0, 1001])
def test_impossible_numbers_of_steps_are_refused(n):
    with pytest.raises(ValueError, match="1000 noise levels"):
        schedules.spaced(schedules.linear(), n)


def test_continuous_levels_have_their_distributions():
    u = (torch.arange(10000, dtype=DOUBLE) + 0.5) / 10000
    logs = schedules.log_normal(u).log()
    assert abs(logs.mean() + 1.2) < 1e-3
    assert abs(logs.std() - 1.2) < 1e-2
    assert schedules.log_uniform(u, 0.1, 10.0).median().item() == pytest.approx(1, rel=1e-3)
    table = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert torch.bincount(schedules.discrete(u, table).long()).tolist() == [0, 2500, 2500, 2500, 2500]
    assert schedules.discrete(torch.tensor([1 - 2**-24]), table).item() == 4


def test_too_few_levels_for_the_betas_are_refused():
    with pytest.raises(ValueError, match=r"4 levels reach from 0\.025 to 5: take more levels"):
        schedules.linear(4, 0.1 / 4, 20 / 4)
