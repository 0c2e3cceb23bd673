"""Densities known exactly: they integrate to one and to their entropy, and their draws fall where they say."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.labs.copulas import COPULAS, MARGINS, SIZES, ClaytonCopula, Copulas, GaussianCopula, Table
from datamodules.labs.density2d import DENSITIES, Density2D, named
from datamodules.labs.exact import Checkerboard, Funnel, Rotated, rotation

DOUBLE = torch.float64
REACH = {"funnel": (4.0, 10.0), "banana": (4.0, 16.0), "moons": (4.0, 8.0), "wave": (6.0, 2.0)}
"""Where nearly all of a density lies: |x| and |y| below these; else 3."""


def cells(name: str, step: float = 0.0125) -> tuple[torch.Tensor, float]:
    """Middles [N, 2] of small squares that fill the region of a density, and their area."""
    lines = [torch.arange(-reach + step / 2, reach, step, dtype=DOUBLE) for reach in REACH.get(name, (3.0, 3.0))]
    return torch.cartesian_prod(*lines), step**2


@pytest.mark.parametrize("name", DENSITIES)
def test_it_integrates_to_one_and_to_its_entropy(name):
    density = named(name)
    points, area = cells(name)
    logs = torch.cat([density.log_prob(part) for part in points.split(2**16)])
    p = logs.exp()
    assert (p.sum() * area).item() == pytest.approx(1, abs=2e-4)
    assert (-torch.xlogy(p, p).sum() * area).item() == pytest.approx(density.entropy(), abs=1e-3)


def chi_square(name: str, x: torch.Tensor, blocks: int = 24, step: float = 0.0125) -> float:
    """The probability that exact draws would disagree more than x [N, 2] with the density's shares of a coarse grid."""
    from scipy.stats import chi2

    points, area = cells(name, step)
    density, reach = named(name), torch.tensor(REACH.get(name, (3.0, 3.0)), dtype=DOUBLE).clamp(max=3)
    p = torch.cat([density.log_prob(part) for part in points.split(2**16)]).exp() * area

    def block(at: torch.Tensor) -> torch.Tensor:
        i = ((at + reach) / (2 * reach) * blocks).floor().long()
        inside = ((i >= 0) & (i < blocks)).all(1)
        return torch.where(inside, i[:, 0] * blocks + i[:, 1], blocks**2)

    expected = torch.zeros(blocks**2 + 1, dtype=DOUBLE).index_add_(0, block(points), p) * len(x)
    expected[-1] += len(x) - expected.sum()
    seen = torch.bincount(block(x), minlength=blocks**2 + 1).double()
    full = expected >= 5
    seen = torch.cat([seen[full], seen[~full].sum()[None]])
    expected = torch.cat([expected[full], expected[~full].sum()[None]])
    seen, expected = (seen, expected) if expected[-1] >= 5 else (seen[:-1], expected[:-1])
    return float(chi2.sf(((seen - expected).square() / expected).sum().item(), len(expected) - 1))


@pytest.mark.parametrize("name", DENSITIES)
def test_draws_fall_where_the_density_says(name):
    """Shares of a coarse grid by chi-square: one false alarm in 10,000; draws that are 4% too wide are refused."""
    x = named(name).draw(40_000, torch.Generator().manual_seed(0))
    assert chi_square(name, x) > 1e-4
    assert chi_square(name, x * 1.04) < 1e-4


def test_draws_in_single_precision_stay_on_the_checkerboard():
    data = Density2D(name="checkerboard")
    assert data.log_prob(data.test(200_000)["x"]).isfinite().all()


@pytest.mark.parametrize("size", [8, 43])
@pytest.mark.parametrize("name", ["ring", "checkerboard"])
def test_a_turned_density_is_the_plane_s_beside_normal_numbers(name, size):
    """Mean log density within 5 standard errors of minus the entropy (one false alarm in a million); the turn is undone."""
    data = Density2D(name=name, size=size)
    x = data.density.draw(20_000, torch.Generator().manual_seed(0))
    logs = data.density.log_prob(x)
    assert abs(logs.mean() + data.entropy()) < 5 * logs.std() / 20_000**0.5 + 1e-6
    flat = x @ rotation(size)
    rest = torch.distributions.Normal(0.0, 1.0).log_prob(flat[:, 2:]).sum(1)
    torch.testing.assert_close(logs, named(name).log_prob(flat[:, :2]) + rest)
    assert data.entropy() == pytest.approx(named(name).entropy() + (size - 2) * 0.5 * math.log(2 * math.pi * math.e))


@settings(derandomize=True, deadline=None, max_examples=20)
@given(st.integers(2, 80))
def test_the_turn_is_a_rotation(size):
    turn = rotation(size)
    torch.testing.assert_close(turn @ turn.T, torch.eye(size, dtype=DOUBLE))
    assert torch.equal(turn, rotation(size))


def test_turned_keeps_volumes():
    density = Rotated(Funnel(), rotation(3))
    line = torch.arange(-5, 5, 0.08, dtype=DOUBLE)
    points = torch.cartesian_prod(line, line, line)
    p = torch.cat([density.log_prob(part) for part in points.split(2**18)]).exp()
    assert (p.sum() * 0.08**3).item() == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("i", range(len(MARGINS)))
def test_margins_are_standard_and_agree_with_themselves(i):
    margin = MARGINS[i]
    x = torch.linspace(-30, 30, 600_001, dtype=DOUBLE)
    p = margin.log_prob(x).exp() * 1e-4
    mean = (p * x).sum()
    assert p.sum().item() == pytest.approx(1, abs=1e-6)
    assert (p * (x - mean).square()).sum().item() == pytest.approx(1, abs=1e-6)
    assert -(p * margin.log_prob(x)).sum().item() == pytest.approx(margin.entropy, abs=1e-6)
    torch.testing.assert_close(margin.below(x), p.cumsum(0), atol=1e-4, rtol=0)
    u = torch.linspace(0.001, 0.999, 101, dtype=DOUBLE)
    torch.testing.assert_close(margin.below(margin.quantile(u)), u)


@pytest.mark.parametrize(
    "copula", [GaussianCopula(torch.tensor([[1, 0.6], [0.6, 1]], dtype=DOUBLE)), ClaytonCopula(2, 1.5)]
)
def test_copulas_of_two_numbers_have_even_margins(copula):
    """By integration: along either number the density is 1 (the grid is even in the logit, for the corners are peaks)."""
    z = torch.linspace(-25, 25, 2001, dtype=DOUBLE)
    u, du = z.sigmoid(), z.sigmoid() * (-z).sigmoid() * (z[1] - z[0])
    rows = torch.linspace(0.02, 0.98, 9, dtype=DOUBLE)
    for row in rows:
        line = torch.stack([row.expand(len(u)), u], 1)
        kept = u < 1 - 1e-9
        assert (copula.log_prob(line[kept]).exp() * du[kept]).sum().item() == pytest.approx(1, abs=1e-4)


def test_clayton_is_the_mixed_derivative_of_its_distribution_function():
    """C(u) = (sum u^-theta - D + 1)^(-1 / theta), differentiated once along each number."""
    theta, u = 0.7, torch.tensor([0.3, 0.6, 0.8], dtype=DOUBLE, requires_grad=True)
    value = (u.pow(-theta).sum() - 2).pow(-1 / theta)
    for i in range(3):
        value = torch.autograd.grad(value, u, create_graph=True)[0][i]
    assert ClaytonCopula(3, theta).log_prob(u[None]).item() == pytest.approx(value.log().item())


@pytest.mark.parametrize("copula", COPULAS)
@pytest.mark.parametrize("like", SIZES)
def test_tables_have_their_entropy(like, copula):
    """Mean log density of draws within 5 standard errors of minus the closed form: one false alarm in a million."""
    data = Copulas(like=like, copula=copula)
    logs = data.density.log_prob(data.density.draw(20_000, torch.Generator().manual_seed(0)))
    assert abs(logs.mean() + data.entropy()) < 5 * logs.std() / 20_000**0.5
    assert data.test(7)["x"].shape == (7, SIZES[like])


@pytest.mark.parametrize("copula", COPULAS)
def test_a_table_of_two_columns_integrates_to_one(copula):
    table = Table(COPULAS[copula](2), 2)
    line = torch.arange(-14, 14, 0.02, dtype=DOUBLE) + 0.01
    p = table.log_prob(torch.cartesian_prod(line, line)).exp()
    assert (p.sum() * 0.02**2).item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: Density2D(name="moon"),
            "There is no density 'moon'; allowed: ring, grid, sharp_grid, pinwheel, checkerboard",
        ),
        (
            lambda: Density2D(name="rings", mixture=True),
            "no mixture 'rings'; allowed: ring, grid, sharp_grid, pinwheel",
        ),
        (lambda: Density2D(size=1), "at least 2 dimensions, not 1"),
        (lambda: Copulas(like="iris"), "no table like 'iris'; allowed: power, gas"),
        (lambda: Copulas(copula="frank"), "no copula 'frank'; allowed: gaussian, clayton"),
    ],
)
def test_what_is_unknown_is_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_the_checkerboard_is_half_dark():
    assert Checkerboard().entropy() == pytest.approx(math.log(2.0))
