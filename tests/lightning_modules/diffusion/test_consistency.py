"""Consistency models: the loss, its optimum on a Gaussian, the schedules, and the target network."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from lightning_modules.diffusion import schedules
from lightning_modules.diffusion.models import consistency
from lightning_modules.diffusion.models.consistency import ConsistencyModel
from lightning_modules.diffusion.samplers.edm import heun_step
from lightning_modules.draws import Draws
from lightning_modules.nets.mlp import ResidualMLP

DOUBLE = torch.float64
V = 0.3


def exact(y, s):
    return V / (V + s[:, None] ** 2) * y


def slope(s, e=0.002):
    """Of the exact consistency function."""
    return ((V + e**2) / (V + s**2)) ** 0.5


class Linear(nn.Module):
    """The network of f(y, s) = a(s) y, for a given function a."""

    def __init__(self, a):
        super().__init__()
        self.a, self.anchor = a, nn.Parameter(torch.zeros(1, dtype=DOUBLE))

    def forward(self, x, level, cond):
        s = (4 * level).exp()[:, None]
        c_skip = 0.25 / ((s - 0.002) ** 2 + 0.25)
        c_out, c_in = 0.5 * (s - 0.002) / (s**2 + 0.25).sqrt(), 1 / (s**2 + 0.25).sqrt()
        return (self.a(s) - c_skip) * (x / c_in) / c_out.clamp(min=1e-12) + self.anchor


def model(net, **more):
    options = {"levels": lambda k: 18, "decay": lambda k: 0.9} | more
    return ConsistencyModel(net, (1,), **options).double()


def test_the_heun_step_has_its_gain():
    s, r = torch.tensor([3.0], dtype=DOUBLE), torch.tensor([2.0], dtype=DOUBLE)
    a = [t / (V + t**2) for t in (3.0, 2.0)]
    expected = 1 + -1.0 / 2 * (a[0] + a[1] * (1 - a[0]))
    assert heun_step(exact, torch.ones(1, 1, dtype=DOUBLE), s, r).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("n", [18, 151])
@pytest.mark.parametrize("distilled", [False, True])
def test_the_optimum_on_a_gaussian_is_the_product_of_the_solvers_gains(n, distilled):
    """Over the exact slope, from sigma_max on: CT 0.848 for 18 levels and 0.981 for 151, CD 1.054 and 1.0006."""
    levels = schedules.karras(n)[:-1].flip(0)
    total = 1.0
    for r, s in pairwise(levels.tolist()):
        a = [t / (V + t**2) for t in (s, r)]
        heun = 1 + (r - s) / 2 * (a[0] + a[1] * (1 + (r - s) * a[0]))
        total *= heun if distilled else (V + s * r) / (V + s**2)
    known = {(18, False): 0.848, (18, True): 1.054, (151, False): 0.981, (151, True): 1.0006}
    assert total / slope(80.0) == pytest.approx(known[n, distilled], abs=1e-3)


def targets_of(made, n=200_000):
    """y at the upper level, that level, and the target, of n examples, as the loss computes them."""
    seen = {}
    made.distance = lambda a, b: seen.update(target=b) or (a - b).square().flatten(1).mean(1)
    x0 = V**0.5 * torch.randn(n, 1, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    made.draws = Draws(2, 0)
    made.losses({"x": x0})
    again = Draws(2, 0)
    index = (again.uniform(n).double() * 17).long()
    s = schedules.karras(18)[:-1].flip(0)[index + 1]
    return x0 + s[:, None] * again.normal(n, 1), s, seen["target"]


def test_the_target_of_distillation_is_one_heun_step_away():
    made = model(Linear(slope), teacher=lambda: exact)
    y, s, target = targets_of(made, 400)
    levels = schedules.karras(18)[:-1].flip(0)
    r = levels[torch.searchsorted(levels, s * (1 - 1e-9)) - 1]
    torch.testing.assert_close(target, slope(r)[:, None] * heun_step(exact, y, s, r), rtol=1e-6, atol=1e-9)


def test_the_target_of_training_has_on_average_the_gain_of_an_euler_step():
    """Its regression on y at one level has the slope a(r) (v + s r) / (v + s^2), within 5 standard errors."""
    y, s, target = targets_of(model(Linear(slope)))
    levels = schedules.karras(18)[:-1].flip(0)
    for k in (6, 9, 12):
        at, r = levels[k], levels[k - 1]
        rows = s == at
        found = (y[rows] * target[rows]).mean() / y[rows].square().mean()
        residual = target[rows] - found * y[rows]
        error = residual.std() / (y[rows].square().sum().sqrt())
        assert abs(found - slope(r) * (V + at * r) / (V + at**2)) < 5 * error


def test_the_function_is_the_identity_at_the_lowest_level(seeded):
    net = ResidualMLP((1,), width=16, depth=1)
    nn.init.normal_(net.leave.weight)
    f = model(net).denoiser()
    y = torch.randn(5, 1, dtype=DOUBLE)
    torch.testing.assert_close(f(y, torch.full((5,), 0.002, dtype=DOUBLE)), y)


def test_the_exact_function_draws_the_data_in_one_step_and_in_several():
    """The variance of several steps follows by hand: see test_samplers; here it is that of the data."""
    made = model(Linear(slope))
    for steps in (1, 2, 4):
        x = made.sample(50_000, steps=steps, rng=torch.Generator().manual_seed(0), batch=50_000)
        assert x.var().item() == pytest.approx(V, rel=5 * (2 / 50_000) ** 0.5)


def test_only_multistep_samples_it():
    made = model(Linear(slope))
    assert made.samplers == ["multistep"]
    with pytest.raises(ValueError, match="cannot be sampled by 'heun': take multistep"):
        made.sample(2, sampler="heun")


def test_grids_become_finer_as_the_paper_says():
    """N(0) = s0 = 2, N(K) = s1 + 1; mu(0) = mu0. iCT: 11, 21, 41 ... 1281."""
    n = consistency.rising(1000)
    assert (n(0), n(1000), n(5000)) == (2, 151, 151)
    assert n(500) == math.ceil(math.sqrt(0.5 * (151**2 - 4) + 4) - 1) + 1
    mu = consistency.rising_decay(n)
    assert mu(0) == pytest.approx(0.9) and mu(1000) == pytest.approx(0.9 ** (2 / 151))
    n = consistency.doubling(800)
    assert [n(k) for k in (0, 99, 100, 200, 700, 5000)] == [11, 11, 21, 41, 1281, 1281]


def test_pairs_of_levels_have_their_log_normal_shares():
    levels = schedules.karras(11)[:-1].flip(0)
    u = torch.linspace(0, 1 - 1e-6, 100_000, dtype=DOUBLE)
    found = torch.bincount(consistency.log_normal_pairs(u, levels), minlength=9) / 1e5
    law = torch.distributions.Normal(-1.1, 2.0)
    mass = law.cdf(levels.log()).diff()
    torch.testing.assert_close(found.double(), mass / mass.sum(), rtol=0, atol=1e-4)


def test_the_target_network_follows_once_a_step_and_has_no_gradient(seeded):
    net = ResidualMLP((1,), width=16, depth=1)
    made = model(net, decay=lambda k: 0.75)
    x, rng = torch.randn(8, 1, dtype=DOUBLE), torch.Generator().manual_seed(0)
    before = [p.clone() for p in made.target.parameters()]
    with torch.no_grad():
        for p in made.net.parameters():
            p.add_(torch.randn(p.shape, generator=rng, dtype=DOUBLE))
    made.draws = Draws(0, 0)
    made.losses({"x": x})["consistency"].backward()
    assert all(torch.equal(a, b) for a, b in zip(before, made.target.parameters(), strict=True))
    assert all(p.grad is None for p in made.target.parameters())
    for _ in range(2):  # two micro-batches of one step
        made.draws = Draws(0, 1)
        made.losses({"x": x})
    for old, p, q in zip(before, made.target.parameters(), made.net.parameters(), strict=True):
        torch.testing.assert_close(p, 0.75 * old + 0.25 * q)
    assert "target.leave.weight" in made.state_dict()


def test_without_a_decay_the_target_is_the_network_itself(seeded):
    net = ResidualMLP((1,), width=16, depth=1)
    nn.init.normal_(net.leave.weight)
    made, other = model(net, decay=lambda k: 0.0), model(net, decay=lambda k: 0.5)
    with torch.no_grad():
        for p in other.target.parameters():
            p.zero_()
    x = torch.randn(8, 1, dtype=DOUBLE)
    losses = []
    for m in (made, other):
        m.draws = Draws(0, 0)
        losses.append(m.losses({"x": x})["consistency"].item())
    assert losses[0] != losses[1]
