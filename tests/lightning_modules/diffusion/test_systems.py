"""EDM, flow matching, NCSN and reflow as their functions build them, against their papers' formulas and exact laws."""

import math

import pytest
import torch
from torch import nn

from datamodules.base import Endless
from datamodules.labs.density2d import ring
from datamodules.labs.gauss_image import GaussImage
from datamodules.transport import Transported, assignment
from lightning_modules.diffusion import coupling, schedules
from lightning_modules.diffusion.models.edm import edm
from lightning_modules.diffusion.models.flow_matching import EDGE, flow_matching, straight, uniform_time
from lightning_modules.diffusion.models.ncsn import ncsn
from lightning_modules.diffusion.samplers.ddim import ddim
from lightning_modules.draws import Draws
from lightning_modules.metrics.gaussian import frechet_floor, frechet_of
from lightning_modules.metrics.likelihood import noise_excess
from lightning_modules.nets.mlp import ResidualMLP

DOUBLE = torch.float64


def loud(shape=(3,)):
    net = ResidualMLP(shape, width=16, depth=1)
    nn.init.normal_(net.leave.weight, std=0.3)
    return net.double()


class Exact(nn.Module):
    """The network whose denoiser is exact: F = (D(y) - c_skip y) / c_out for an input c_in y and a level."""

    def __init__(self, denoise, precondition, sigma_of):
        super().__init__()
        self.denoise, self.precondition, self.sigma_of = denoise, precondition, sigma_of
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, x, level, cond):
        sigma = self.sigma_of(level)
        skip, out, c_in = (c.reshape(-1, *[1] * (x.ndim - 1)) for c in self.precondition(sigma))
        y = x / c_in
        return (self.denoise(y, sigma) - skip * y) / out + self.anchor


def losses(model, x):
    """The model's loss, and the uniform numbers and noise of it."""
    model.draws = Draws(4, 5)
    (loss,) = model.losses({"x": x}).values()
    again = Draws(4, 5)
    return loss, again.uniform(len(x)).double(), again.normal(*x.shape).double()


def test_edm_loss_is_table_1(seeded):
    """lambda(s) |D(y, s) - x|^2 at ln s ~ N(-1.2, 1.2^2), lambda = (s^2 + 0.25) / (0.5 s)^2."""
    net = loud()
    model, x = edm(net, (3,)).double(), torch.randn(64, 3, dtype=DOUBLE)
    loss, u, n = losses(model, x)
    s = (-1.2 + 1.2 * torch.special.ndtri(u.clamp(1e-7, 1 - 1e-7))).exp()[:, None]
    y, root = x + s * n, (s**2 + 0.25).sqrt()
    answer = 0.25 / root**2 * y + 0.5 * s / root * net(y / root, s[:, 0].log() / 4)
    expected = ((s**2 + 0.25) / (0.5 * s) ** 2 * (answer - x).square()).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)


def test_flow_matching_loss_is_the_velocity_regression(seeded):
    net = loud()
    model, x = flow_matching(net, (3,)).double(), torch.randn(64, 3, dtype=DOUBLE)
    loss, u, n = losses(model, x)
    t = u.clamp(EDGE, 1 - EDGE)[:, None]
    expected = (net((1 - t) * x + t * n, t[:, 0]) - (n - x)).square().mean()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)


def test_ncsn_loss_is_equation_5_in_units_of_the_noise(seeded):
    """sigma^2 |score + n / sigma|^2, the mean over dimensions, where the network answers sigma times the score."""
    net = loud()
    model, x = ncsn(net, (3,), levels=7).double(), torch.randn(64, 3, dtype=DOUBLE)
    loss, u, n = losses(model, x)
    table = torch.logspace(math.log10(0.02), math.log10(2.0), 7, dtype=DOUBLE)
    s = table[(u * 7).long()][:, None]
    expected = (net(x + s * n, s[:, 0].log()) + n).square().mean()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)


def test_levels_of_ncsn_have_one_ratio_and_sampling_visits_all():
    model = ncsn(loud(), (3,), levels=5)
    levels = model.draw.grid(5)
    assert levels[0] == pytest.approx(2.0) and levels[4] == pytest.approx(0.02) and levels[5] == 0
    ratios = levels[1:5] / levels[:4]
    torch.testing.assert_close(ratios, ratios[:1].expand(4))
    with pytest.raises(ValueError, match="visits all 5 levels"):
        model.sample(2, steps=9)


SYSTEMS = {
    "edm": (edm, lambda level: (4 * level).exp(), {"sigma_min": 0.02, "sigma_max": 20.0, "steps": 40}),
    "flow": (flow_matching, schedules.from_flow_time, {"steps": 200}),
    "ncsn": (ncsn, torch.exp, {"levels": 12, "repeats": 30, "sigma_min": 0.05, "sigma_max": 4.0}),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_exact_network_has_no_excess_and_draws_the_data(name):
    """The mean Frechet distance of 10 sets is that of true ones; a set's scatters by 0.7, so twice it is over 4 sigma."""
    build, sigma_of, more = SYSTEMS[name]
    data = GaussImage(size=3)
    model = build(loud(data.shape), data.shape, **more).double()
    model.net = Exact(data.denoise, model.precondition, sigma_of)
    rng, truth = torch.Generator().manual_seed(0), (data.mean, data.cov)
    x = data.test(512)["x"].double()
    excess, floor = noise_excess(model.denoiser(), data.denoise, x, model.bound.levels, rng=rng)
    assert excess < 1e-9 < floor
    sets = model.sample(10 * 500, rng=rng, batch=5_000).chunk(10)
    drawn = sum(frechet_of(x, truth) for x in sets) / 10
    assert drawn < 2 * frechet_floor(lambda n, g: data.draw(n, g)["x"], truth, 500)


def test_uniform_times_stay_inside():
    levels = uniform_time(torch.tensor([0.0, 0.5, 1 - 2**-24]))
    assert torch.isfinite(levels).all() and (levels > 0).all()
    assert levels[1] == 1
    times = schedules.flow_time(straight(10))
    torch.testing.assert_close(times, torch.linspace(1 - EDGE, 0, 11, dtype=DOUBLE))


# ---- pairs


def test_optimal_pairs_cost_least_and_approach_the_wasserstein_distance():
    """In one dimension the best pairs are the sorted ones; of N(0, 1) with N(3, 1) the distance is 3."""
    rng = torch.Generator().manual_seed(0)
    x, n = 3 + torch.randn(400, 1, generator=rng), torch.randn(400, 1, generator=rng)
    paired = n[assignment(x, n)]
    best = (x.sort(0).values - n.sort(0).values).square().mean()
    torch.testing.assert_close((x - paired).square().mean(), best)
    assert (x - paired).square().mean() < (x - n).square().mean()
    assert (x - paired).square().mean().sqrt().item() == pytest.approx(3, abs=0.3)


def test_pairs_are_those_of_the_global_batch_on_any_number_of_workers():
    source = Transported(Endless(lambda n, g: {"x": ring().draw(n, g).float()}))
    whole = source.rows(3, 7, 32, 0, 32)
    parts = [source.rows(3, 7, 32, k, k + 8) for k in range(0, 32, 8)]
    for name in ("x", "noise"):
        assert torch.equal(whole[name], torch.cat([part[name] for part in parts]))
    assert not torch.equal(source.rows(3, 8, 32, 0, 32)["noise"], whole["noise"])


def test_given_noise_is_the_noise_of_the_loss(seeded):
    net, x, n = loud(), torch.randn(16, 3, dtype=DOUBLE), torch.randn(16, 3, dtype=DOUBLE)
    model = flow_matching(net, (3,), couple=coupling.given).double()
    model.draws = Draws(4, 5)
    loss = model.losses({"x": x, "noise": n})["velocity_mse"]
    t = Draws(4, 5).uniform(16).double().clamp(EDGE, 1 - EDGE)[:, None]
    expected = (net((1 - t) * x + t * n, t[:, 0]) - (n - x)).square().mean()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)


def test_reflow_pairs_noise_with_the_end_of_the_teachers_path():
    """Of a Gaussian of variance v the flow is linear, x = sqrt(v) n up to the steps' error, so the new path is straight: its velocity
    is n - x0 = (1 - sqrt(v)) n, which one Euler step follows exactly."""
    v = 0.3
    couple = coupling.reflow(lambda: lambda y, s: v / (v + s[:, None] ** 2) * y, straight(2000))
    x0, n = couple(torch.zeros(64, 2, dtype=DOUBLE), {}, Draws(1, 2))
    torch.testing.assert_close(x0, v**0.5 * n, rtol=3e-3, atol=0)
    assert not x0.is_inference()

    def one_path(y, s):
        t = (s / (1 + s))[:, None]
        at = (1 - t) * y  # x_t = ((1 - t) sqrt(v) + t) n
        return v**0.5 * at / ((1 - t) * v**0.5 + t)

    grid = straight(1)
    torch.testing.assert_close(ddim(one_path, grid[0].item() * n, grid), v**0.5 * n, rtol=1e-3, atol=0)
