"""Samplers with the exact denoiser of a Gaussian: each step is affine, so the law of the whole chain follows by hand."""

from functools import partial
from itertools import pairwise
from math import log

import pytest
import torch

from lightning_modules.diffusion import schedules
from lightning_modules.diffusion.samplers.ancestral import ancestral, fixed_variance
from lightning_modules.diffusion.samplers.chain import start
from lightning_modules.diffusion.samplers.consistency import multistep
from lightning_modules.diffusion.samplers.ddim import ddim, encode, interpolate
from lightning_modules.diffusion.samplers.dpm_solver import dpm_solver
from lightning_modules.diffusion.samplers.edm import heun
from lightning_modules.diffusion.samplers.langevin import annealed_langevin, predictor_corrector
from lightning_modules.diffusion.steps import reverse

STD = 0.7
V = STD**2
MEAN = 0.3
TABLE = schedules.linear(200, 5e-4, 0.1)


def exact(y, s):
    level = s[:, None]
    return (V * y + level**2 * MEAN) / (V + level**2)


def gain(s):
    """Of D(y, s) - MEAN by y - MEAN."""
    return V / (V + s**2)


def slope(s):
    """Of the flow: dy/ds = slope (y - MEAN)."""
    return s / (V + s**2)


def exact_flow(s, r):
    return ((V + r**2) / (V + s**2)) ** 0.5


def drawn(sampler, grid, n=50_000):
    """n draws [n], float64, from y ~ N(0, 1 + grid[0]^2)."""
    rng = torch.Generator().manual_seed(0)
    y = start(torch.empty(n, 1, dtype=torch.float64), grid, data_std=1.0, rng=rng)
    return sampler(exact, y, grid, rng=rng)[:, 0]


def agree(x, variance):
    """|error| < 5 standard errors: a false alarm once in a million."""
    assert abs(x.var().item() - variance) < 5 * variance * (2 / len(x)) ** 0.5


# ---- the variance of each chain, by hand


def of_ancestral(grid, variance):
    v = grid[0] ** 2 + 1
    for s, r in pairwise(grid):
        v = (gain(s) * (1 - r**2 / s**2) + r**2 / s**2) ** 2 * v + (variance(s, r) if r > 0 else 0)
    return v.item()


def of_ddim(grid, eta):
    v = grid[0] ** 2 + 1
    for s, r in pairwise(grid):
        up = eta**2 * r**2 * (s**2 - r**2) / s**2
        v = ((V + s * (r**2 - up) ** 0.5) / (V + s**2)) ** 2 * v + up
    return v.item()


def of_heun(grid, churn=0.0, low=0.0, high=1e9, std=1.0):
    v, most = grid[0] ** 2 + 1, min(churn / (len(grid) - 1), 2**0.5 - 1)
    for s, r in pairwise(grid):
        if low <= s <= high:
            raised = s * (1 + most)
            v, s = v + (raised**2 - s**2) * std**2, raised
        h = r - s
        v = (1 + h / 2 * (slope(s) + slope(r) * (1 + h * slope(s))) if r > 0 else gain(s)) ** 2 * v
    return v.item()


def of_dpm_solver(grid, stochastic):
    """The covariance of (y, D of the step before) is carried along."""
    cov, before = torch.tensor([[grid[0] ** 2 + 1, 0.0], [0.0, 0.0]], dtype=torch.float64), None
    for s, r in pairwise(grid.tolist()):
        now, ahead = torch.tensor([gain(s), 0.0], dtype=torch.float64), 0.0
        if before is not None and r > 0:
            q = log(before / s) / log(s / r)
            ahead = 1 / (2 * q)
        estimate = (1 + ahead) * now - ahead * torch.tensor([0.0, 1.0], dtype=torch.float64)
        keep = (r / s) ** 2 if stochastic else r / s
        step = torch.stack([(1 - keep) * estimate + keep * torch.tensor([1.0, 0.0], dtype=torch.float64), now])
        cov, before = step @ cov @ step.T, s
        cov[0, 0] += r**2 * (1 - (r / s) ** 2) if stochastic else 0.0
    return cov[0, 0].item()


def of_langevin(grid, repeats, step_size):
    v = grid[0] ** 2 + 1
    for s in grid[:-1]:
        a = step_size * s**2
        for _ in range(repeats):
            v = (1 - a / (V + s**2)) ** 2 * v + 2 * a
    return (gain(grid[-2]) ** 2 * v).item()


def of_multistep(grid, sigma_min):
    """Of the exact consistency function, whose gain from t to sigma_min is that of the flow."""
    v = exact_flow(grid[0], sigma_min) ** 2 * (grid[0] ** 2 + 1)
    for t in grid[1:-1]:
        v = exact_flow(t, sigma_min) ** 2 * (v + t**2 - sigma_min**2)
    return v.item()


@pytest.mark.parametrize("variance", [schedules.posterior, schedules.forward])
@pytest.mark.parametrize("steps", [20, 200])
def test_ancestral_chain_has_the_variance_computed_by_hand(variance, steps):
    grid = schedules.spaced(TABLE, steps)
    x, expected = drawn(fixed_variance(variance), grid), of_ancestral(grid, variance)
    agree(x, expected)
    assert abs(x.mean().item() - MEAN) < 5 * (expected / len(x)) ** 0.5 + 0.01


@pytest.mark.parametrize("grid", [schedules.spaced, schedules.trailing, schedules.quadratic])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_has_the_variance_computed_by_hand(grid, eta):
    levels = grid(TABLE, 10)
    agree(drawn(partial(ddim, eta=eta), levels), of_ddim(levels, eta))


@pytest.mark.parametrize(
    "how", [{}, {"churn": 8.0, "churn_min": 0.05, "churn_max": 5.0, "churn_std": 1.01}, {"churn": 90.0}]
)
def test_heun_has_the_variance_computed_by_hand(how):
    levels = schedules.karras(18)
    names = {"churn": "churn", "churn_min": "low", "churn_max": "high", "churn_std": "std"}
    agree(drawn(partial(heun, **how), levels), of_heun(levels, **{names[k]: x for k, x in how.items()}))


@pytest.mark.parametrize("stochastic", [False, True])
def test_dpm_solver_has_the_variance_computed_by_hand(stochastic):
    levels = schedules.karras(8)
    agree(drawn(partial(dpm_solver, stochastic=stochastic), levels), of_dpm_solver(levels, stochastic))


def test_annealed_langevin_has_the_variance_computed_by_hand():
    levels = schedules.geometric(6, 0.1, 3.0)
    x = drawn(partial(annealed_langevin, repeats=7, step_size=0.3), levels)
    agree(x, of_langevin(levels, 7, 0.3))


def test_langevin_is_stationary_at_the_variance_of_its_steps():
    """Of a step a at level s: t2 / (1 - a / (2 t2)), where t2 = V + s^2."""
    s, step_size = 0.5, 0.4
    levels = torch.tensor([s, 0.0], dtype=torch.float64)
    x = drawn(partial(annealed_langevin, repeats=200, step_size=step_size, finish=False), levels, 20_000)
    a, t2 = step_size * s**2, V + s**2
    agree(x, t2 / (1 - a / (2 * t2)))


def test_predictor_corrector_has_the_variance_computed_by_hand():
    """In many dimensions the norms that set a correction's size are nearly constant: sqrt(d) and sqrt(d v) / (V + s^2)."""
    d, n, levels = 400, 500, schedules.geometric(12, 0.1, 5.0)
    rng = torch.Generator().manual_seed(0)
    y = start(torch.empty(n, d, dtype=torch.float64), levels, data_std=0.0, rng=rng)
    x = predictor_corrector(lambda y, s: gain(s)[:, None] * y, y, levels, corrections=2, rng=rng).flatten()
    v = levels[0].item() ** 2
    for s, r in pairwise(levels.tolist()):
        added = s**2 - r**2
        v = (1 - added / (V + s**2)) ** 2 * v + (added if r > 0 else 0)
        for _ in range(2 if r > 0 else 0):
            step = 2 * 0.16**2 * (V + r**2) ** 2 / v
            v = (1 - step / (V + r**2)) ** 2 * v + 2 * step
    assert x.var().item() == pytest.approx(v, rel=5 * (2 / (n * d)) ** 0.5 + 1e-3)


@pytest.mark.parametrize("levels", [[3.0, 0.0], [3.0, 0.7, 0.0], [80.0, 2.0, 0.3, 0.0]])
def test_multistep_has_the_variance_computed_by_hand(levels):
    grid = torch.tensor(levels, dtype=torch.float64)

    def function(y, s):
        return MEAN + exact_flow(s, 0.002)[:, None] * (y - MEAN)

    rng = torch.Generator().manual_seed(0)
    y = start(torch.empty(50_000, 1, dtype=torch.float64), grid, data_std=1.0, rng=rng)
    agree(multistep(function, y, grid, rng=rng)[:, 0], of_multistep(grid, 0.002))


# ---- limits and orders


def test_full_ancestral_chain_reaches_the_data():
    """The chain's own variance, without sampling error, is that of the data within the steps' discretisation."""
    grid = schedules.spaced(schedules.linear(), 1000)
    assert of_ancestral(grid, schedules.forward) == pytest.approx(V, rel=2e-3)


FLOWS = [(heun, 64, 5e-3), (ddim, 512, 1e-2), (dpm_solver, 128, 5e-3)]


@pytest.mark.parametrize(("sampler", "n", "tolerance"), FLOWS)
def test_deterministic_samplers_follow_the_exact_flow(sampler, n, tolerance):
    """The probability flow of a Gaussian maps y at s to mean + (y - mean) std / sqrt(std^2 + s^2)."""
    grid, y = schedules.karras(n), torch.linspace(-100, 100, 9, dtype=torch.float64)[:, None]
    expected = MEAN + (y - MEAN) * exact_flow(grid[0], 0.0)
    torch.testing.assert_close(sampler(exact, y, grid), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize(("sampler", "order"), [(ddim, 1), (heun, 2), (dpm_solver, 2)])
def test_the_error_shrinks_by_the_order_of_the_method(sampler, order):
    y = torch.tensor([[50.0]], dtype=torch.float64)
    true = MEAN + (y - MEAN) * exact_flow(80.0, 0.0)
    errors = [(sampler(exact, y, schedules.karras(n)) - true).abs().item() for n in (256, 512)]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.1)


def test_eta_one_is_ancestral():
    grid, y = schedules.spaced(schedules.linear(), 10), torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    one = ddim(exact, y, grid, eta=1.0, rng=torch.Generator().manual_seed(1))
    two = ancestral(reverse(exact, schedules.posterior), y, grid, rng=torch.Generator().manual_seed(1))
    torch.testing.assert_close(one, two)


def test_one_step_of_the_stochastic_solver_is_ancestral():
    """Its first step is of first order; there it draws from the posterior."""
    grid, y = torch.tensor([2.0, 0.5], dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    one = dpm_solver(exact, y, grid, stochastic=True, rng=torch.Generator().manual_seed(1))
    two = ancestral(reverse(exact, schedules.posterior), y, grid, rng=torch.Generator().manual_seed(1))
    torch.testing.assert_close(one, two)


# ---- the inverse and interpolation


def test_encoding_multiplies_by_the_gains_of_its_steps():
    """y - mean grows in each step from s up to r by (V + s r) / (V + s^2); in the first one, from 0 to s, by 2 - V / (V + s^2)."""
    grid, x = schedules.karras(12), torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    up = grid.flip(0)
    total = 2 - gain(up[1])
    for s, r in pairwise(up[1:]):
        total *= (V + s * r) / (V + s**2)
    torch.testing.assert_close(encode(exact, x, grid), MEAN + (x - MEAN) * total, rtol=1e-10, atol=0)


def test_decoding_what_was_encoded_returns_it_as_steps_shrink():
    x = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    grids = [schedules.karras(n) for n in (200, 400)]
    errors = [(ddim(exact, encode(exact, x, grid), grid) - x).abs().max().item() for grid in grids]
    assert errors[1] < 0.04
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.15)


def test_interpolation_keeps_the_length_and_its_ends():
    a, b = torch.randn(2, 3, 1, 50, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for share in (0.0, 0.3, 1.0):
        x = interpolate(a, b, torch.full((3,), share, dtype=torch.float64))
        lengths = [t.flatten(1).norm(dim=1) for t in (x, a, b)]
        torch.testing.assert_close(lengths[0], (1 - share) * lengths[1] + share * lengths[2], rtol=0.03, atol=0)
    torch.testing.assert_close(interpolate(a, b, torch.zeros(3, dtype=torch.float64)), a)
    torch.testing.assert_close(interpolate(a, b, torch.ones(3, dtype=torch.float64)), b)


# ---- grids


@pytest.mark.parametrize("grid", [schedules.spaced, schedules.trailing, schedules.quadratic])
def test_grids_descend_to_zero_through_levels_of_the_table(grid):
    levels = grid(TABLE, 10)
    assert len(levels) == 11
    assert levels[-1] == 0
    assert (levels.diff() < 0).all()
    assert torch.isin(levels[:-1], TABLE).all()


def test_ends_of_grids():
    """Evenly spaced: both ends of the table. Trailing: the last level, down to the (T / n)-th. Quadratic: 0.8 T, down to the first."""
    assert schedules.spaced(TABLE, 10)[[0, -2]].tolist() == TABLE[[199, 0]].tolist()
    assert schedules.trailing(TABLE, 10)[[0, -2]].tolist() == TABLE[[199, 19]].tolist()
    assert schedules.quadratic(TABLE, 10)[[0, -2]].tolist() == TABLE[[160, 0]].tolist()


@pytest.mark.parametrize("grid", [schedules.spaced, schedules.trailing, schedules.quadratic])
@pytest.mark.parametrize("n", [0, 201])
def test_a_stride_that_the_table_does_not_have_is_refused(grid, n):
    with pytest.raises(ValueError, match=f"in {n} steps is impossible: there are 200 noise levels"):
        grid(TABLE, n)


def test_glide_visits_27_levels_of_1000():
    """10, 10, 3, 2 and 2 of the fifths, by hand: each section's ends, evenly spaced between them; 997 in place of 999."""
    first = [0, 22, 44, 66, 88, 111, 133, 155, 177, 199]
    expected = [*first, *(200 + i for i in first), 400, 500, 599, 600, 799, 800, 997]
    table = torch.arange(1.0, 1001.0, dtype=torch.float64)
    found = schedules.glide(table)
    assert found[-1] == 0 and (found.diff() < 0).all()
    assert (found[:-1].flip(0) - 1).tolist() == expected


def test_sections_of_a_table_that_does_not_divide_have_one_entry_more_at_first():
    assert schedules.sections(11, (2, 1, 2)) == [0, 3, 4, 8, 10]
    with pytest.raises(ValueError, match="27 steps, not 10"):
        schedules.glide(TABLE, 10)
    with pytest.raises(ValueError, match="A table of 40 levels"):
        schedules.glide(TABLE[:40])


def test_quadratic_steps_that_visit_a_level_twice_are_refused():
    with pytest.raises(ValueError, match="visit a level twice"):
        schedules.quadratic(TABLE, 150)
