"""Flows as models: densities that are densities, orders that are orders, samplers that are the inverse, norms that agree."""

import math

import pytest
import torch
from torch import nn

from lightning_modules.flows.autoregressive import Autoregressive, MaskedMLP
from lightning_modules.flows.bijection import Chain, Inverse
from lightning_modules.flows.elementwise import ActNorm, BatchNorm
from lightning_modules.flows.flow import LOGISTIC, NORMAL, Flow
from lightning_modules.flows.glow import Glow
from lightning_modules.flows.iaf import IAF
from lightning_modules.flows.maf import MAF
from lightning_modules.flows.nice import NICE
from lightning_modules.flows.realnvp import RealNVP
from lightning_modules.model import Density, Draws, Samples

PLANE = {
    "nice": lambda **more: NICE((2,), width=16, depth=2, **more),
    "realnvp": lambda **more: RealNVP((2,), depth=4, width=16, **more),
    "maf": lambda **more: MAF((2,), depth=3, hidden=(16, 16), **more),
    "maf, normed": lambda **more: MAF((2,), depth=3, hidden=(16,), norm=True, **more),
    "iaf": lambda **more: IAF((2,), depth=3, hidden=(16,), **more),
}
IMAGES = {
    "nice": lambda **more: NICE((1, 8, 8), width=32, depth=2, **more),
    "realnvp": lambda **more: RealNVP((1, 8, 8), depth=1, width=8, scales=3, **more),
    "glow": lambda **more: Glow((1, 8, 8), steps=2, scales=2, width=8, **more),
}


def shaken(model: Flow, by: float = 0.2) -> Flow:
    with torch.no_grad():
        for p in model.parameters():
            p.add_(by * torch.randn_like(p))
    return model


@pytest.mark.parametrize("name", PLANE)
@pytest.mark.parametrize("classes", [0, 3])
def test_the_density_integrates_to_one(name, classes, seeded):
    model = shaken(PLANE[name](classes=classes))
    side = torch.linspace(-40, 40, 1601)
    points = torch.cartesian_prod(side, side)
    cond = torch.full((len(points),), 2) if classes else None
    with torch.no_grad():
        total = model.log_prob(points, cond).double().exp().sum() * (side[1] - side[0]) ** 2
    assert abs(total - 1) < 5e-3


@pytest.mark.parametrize("name", PLANE)
def test_draws_are_what_the_density_says(name, seeded):
    """Of the density's own entropy: the mean of -log p over draws equals its integral within 4 standard errors (p = 6e-5)."""
    model = shaken(PLANE[name]())
    side = torch.linspace(-40, 40, 1601)
    points = torch.cartesian_prod(side, side)
    with torch.no_grad():
        logp = model.log_prob(points).double()
        exact = -(logp.exp() * logp).sum() * (side[1] - side[0]) ** 2
        code = -model.log_prob(model.sample(20_000, rng=torch.Generator().manual_seed(0))).double()
    assert abs(code.mean() - exact) < 4 * code.std() / len(code) ** 0.5 + 5e-3


@pytest.mark.parametrize("name", IMAGES)
@torch.no_grad()
def test_images_go_to_noise_and_back(name, seeded):
    model = shaken(IMAGES[name](levels=17, classes=3), 0.05).double().eval()
    x = torch.rand(4, 1, 8, 8, dtype=torch.float64) * 1.8 - 0.9
    cond = model.told(torch.tensor([0, 1, 2, 0]))
    z, logdet = model.bijection(x, cond)
    back, other = model.bijection.inverse(z, cond)
    assert z.shape == (4, 64)
    torch.testing.assert_close(back, x, atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(other, -logdet, atol=1e-8, rtol=1e-8)


def test_models_draw_grey_levels_and_score_them(seeded):
    model = IMAGES["glow"](levels=17)
    assert isinstance(model, Samples)
    assert isinstance(model, Density)
    x = model.sample(5, rng=torch.Generator().manual_seed(0))
    assert x.shape == (5, 1, 8, 8)
    torch.testing.assert_close((x + 1) * 8, ((x + 1) * 8).round())
    assert model.bits_per_dim(x).isfinite().all()


def test_even_noise_on_grey_levels_is_a_lower_bound(seeded):
    """A flow that is the identity on one pixel: the bin's exact probability is a difference of the normal's distribution function."""
    model = Flow(Chain([]), (1,), levels=5)
    x = torch.tensor([[0.5]])
    p = torch.special.ndtr(torch.tensor(0.75)) - torch.special.ndtr(torch.tensor(0.25))
    logs = torch.stack([model.log_prob(x, rng=torch.Generator().manual_seed(i)) for i in range(200)])
    assert abs(logs.exp().mean() - p) < 4 * logs.exp().std() / 200**0.5
    assert logs.mean() < p.log()


@pytest.mark.parametrize("order", [None, torch.tensor([2, 0, 3, 1])])
@pytest.mark.parametrize("cond", [0, 2])
def test_masked_networks_see_only_what_came_before(order, cond, seeded):
    net = MaskedMLP(4, (32, 32), 2, cond=cond, order=order)
    x, c = torch.randn(4), torch.randn(1, cond) if cond else None
    jacobian = torch.autograd.functional.jacobian(lambda one: net(one[None], c)[0], x).unflatten(0, (2, 4))
    place = net.order.argsort()
    for i in range(4):
        for j in range(4):
            sees = (jacobian[:, i, j] != 0).any().item()
            assert sees == (place[j] < place[i]).item(), f"number {i} and input {j}"
    if cond:
        told = torch.autograd.functional.jacobian(lambda one: net(x[None], one[None])[0], c[0])
        assert (told != 0).any(1).all(), "the condition reaches every number, the first too"


@pytest.mark.parametrize("cond", [0, 2])
@torch.no_grad()
def test_the_incremental_inverse_is_that_of_whole_passes(cond, seeded):
    flow = Autoregressive(MaskedMLP(9, (40, 30), 2, cond=cond, order=torch.randperm(9))).double()
    z, c = torch.randn(5, 9).double(), torch.randn(5, cond).double() if cond else None
    quick = flow.inverse(z, c)
    with torch.enable_grad():
        slow = flow.inverse(z, c)
    for got, want in zip(quick, slow, strict=True):
        torch.testing.assert_close(got, want, atol=1e-10, rtol=1e-10)


def test_iaf_is_the_inverse_of_maf_with_the_same_weights(seeded):
    maf = shaken(MAF((6,), depth=2, hidden=(24,))).double()
    iaf = IAF((6,), depth=2, hidden=(24,)).double()
    for mine, other in zip(iaf.bijection.parts, reversed(maf.bijection.parts), strict=True):
        assert isinstance(mine, Inverse)
        mine.of.load_state_dict(other.state_dict())
    x = torch.randn(3, 6).double()
    with torch.no_grad():
        there, logdet = maf.bijection(x)
        back, other = iaf.bijection(there)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(other, -logdet)


@pytest.mark.parametrize("base", [NORMAL, LOGISTIC], ids=["normal", "logistic"])
def test_bases_draw_from_their_densities(base):
    log_prob, quantile = base
    u = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    z = quantile(u).requires_grad_()
    side = torch.linspace(-40, 40, 400_001, dtype=torch.float64)
    below = (log_prob(side).exp() * (side[1] - side[0])).cumsum(0)
    found = torch.searchsorted(below, u)
    torch.testing.assert_close(side[found], z.detach(), atol=1e-3, rtol=0)


def test_actnorm_starts_with_standard_channels(seeded):
    model = Glow((2, 4, 4), steps=2, scales=1, width=8)
    x = torch.randn(64, 2, 4, 4) * torch.tensor([3.0, 0.1]).reshape(1, 2, 1, 1) + 5
    model.fit_norms({"x": x})
    assert model.fitted
    first = next(m for m in model.modules() if isinstance(m, ActNorm))
    h = first(nn.functional.pixel_unshuffle(x, 2)).value
    torch.testing.assert_close(h.mean((0, 2, 3)), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(h.var((0, 2, 3), correction=0), torch.ones(8), atol=1e-2, rtol=0)


def test_batch_norm_in_training_is_the_batch_and_then_its_average(seeded):
    layer, x = BatchNorm((3,), momentum=1.0), torch.randn(50, 3) * 4 + 2
    z, logdet = layer(x)
    torch.testing.assert_close(z, (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt(), atol=1e-4, rtol=1e-4)
    layer.eval()
    torch.testing.assert_close(layer(x).value, z, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logdet, -0.5 * (x.var(0, correction=0) + 1e-5).log().sum().expand(50))


def test_a_flow_learns_a_density_to_its_entropy(seeded):
    """Correlated normals: the likelihood of a MAF with the exact solution in its reach comes within 0.02 nats of the entropy."""
    root = torch.tensor([[1.0, 0.0], [0.9, 0.5]])
    entropy = math.log(2 * math.pi * math.e) + root.logdet().item()
    model = MAF((2,), depth=2, hidden=(16,), lr=1e-2)
    adam = torch.optim.Adam(model.parameters(), 1e-2)
    rng = torch.Generator().manual_seed(0)
    for step in range(300):
        model.draws = Draws(0, step)
        x = torch.randn(512, 2, generator=rng) @ root.T
        adam.zero_grad()
        sum(model.losses({"x": x}).values()).backward()
        adam.step()
    x = torch.randn(50_000, 2, generator=rng) @ root.T
    with torch.no_grad():
        assert -model.log_prob(x).mean() - entropy < 0.02
