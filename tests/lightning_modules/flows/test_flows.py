"""Flows as models: densities that are densities, orders that are orders, samplers that are the inverse, norms that agree."""

import math

import lightning as L
import pytest
import torch
from torch import nn

from datamodules.labs.density2d import Density2D
from lightning_modules.draws import Draws
from lightning_modules.flows.autoregressive import Autoregressive
from lightning_modules.flows.bijection import Chain, Inverse
from lightning_modules.flows.coupling import affine, alternating
from lightning_modules.flows.elementwise import ActNorm, BatchNorm
from lightning_modules.flows.flow import LOGISTIC, NORMAL, Flow
from lightning_modules.flows.glow import Glow
from lightning_modules.flows.iaf import IAF
from lightning_modules.flows.maf import MAF
from lightning_modules.flows.nice import NICE
from lightning_modules.flows.nsf import NSF, slopes, spline
from lightning_modules.flows.realnvp import RealNVP
from lightning_modules.model import Density, Samples
from lightning_modules.nets.conditioned import MLP
from lightning_modules.nets.masked import MaskedMLP
from lightning_modules.optim import Adam

PLANE = {
    "nice": lambda **more: NICE((2,), width=16, depth=2, **more),
    "realnvp": lambda **more: RealNVP((2,), depth=4, width=16, **more),
    "maf": lambda **more: MAF((2,), depth=3, hidden=(16, 16), **more),
    "maf, normed": lambda **more: MAF((2,), depth=3, hidden=(16,), norm=True, **more),
    "maf, mixtures": lambda **more: MAF((2,), depth=2, hidden=(16,), components=3, **more),
    "spline": lambda **more: NSF((2,), depth=2, width=16, **more),
    "spline, autoregressive": lambda **more: NSF((2,), depth=2, width=16, autoregressive=True, **more),
    "iaf": lambda **more: IAF((2,), depth=3, hidden=(16,), **more),
}
IMAGES = {
    "nice": lambda **more: NICE((1, 8, 8), width=32, depth=2, **more),
    "realnvp": lambda **more: RealNVP((1, 8, 8), depth=1, width=8, scales=3, **more),
    "glow": lambda **more: Glow((1, 8, 8), steps=2, scales=2, width=8, **more),
}


def field(name: str) -> tuple[torch.Tensor, float]:
    """Points [N, 2] of a square that holds the density of a shaken model, and the area of each."""
    side = torch.linspace(-12, 12, 481) if "spline" in name else torch.linspace(-40, 40, 1601)
    return torch.cartesian_prod(side, side), (side[1] - side[0]).item() ** 2


def shaken(model, by: float = 0.2):
    with torch.no_grad():
        for p in model.parameters():
            p.add_(by * torch.randn_like(p))
    return model


@pytest.mark.parametrize("name", PLANE)
@pytest.mark.parametrize("classes", [0, 3])
def test_the_density_integrates_to_one(name, classes, seeded):
    model = shaken(PLANE[name](classes=classes))
    points, area = field(name)
    cond = torch.full((len(points),), 2) if classes else None
    with torch.no_grad():
        total = model.log_prob(points, cond).double().exp().sum() * area
    assert abs(total - 1) < 5e-3


@pytest.mark.parametrize("name", PLANE)
def test_draws_are_what_the_density_says(name, seeded):
    """Of the density's own entropy: the mean of -log p over draws equals its integral within 4 standard errors (p = 6e-5)."""
    model = shaken(PLANE[name]())
    points, area = field(name)
    with torch.no_grad():
        logp = model.log_prob(points).double()
        exact = -(logp.exp() * logp).sum() * area
        code = -model.log_prob(model.sample(20_000, rng=torch.Generator().manual_seed(0))).double()
    assert abs(code.mean() - exact) < 4 * code.std() / len(code) ** 0.5 + 5e-3


@pytest.mark.parametrize("name", IMAGES)
@torch.no_grad()
def test_images_go_to_noise_and_back(name, seeded):
    model = shaken(IMAGES[name](levels=17, classes=3), 0.05).double().eval()
    x = torch.rand(4, 1, 8, 8, dtype=torch.float64) * 1.8 - 0.9
    cond = model.one_hot(torch.tensor([0, 1, 2, 0]))
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


def test_uniform_noise_on_grey_levels_is_a_lower_bound(seeded):
    """A flow that is the identity on one pixel: the bin's exact probability is a difference of the normal's distribution function."""
    model = Flow(Chain([]), (1,), levels=5)
    x = torch.tensor([[0.5]])
    p = torch.special.ndtr(torch.tensor(0.75)) - torch.special.ndtr(torch.tensor(0.25))
    logs = torch.stack([model.log_prob(x, rng=torch.Generator().manual_seed(i)) for i in range(200)])
    assert abs(logs.exp().mean() - p) < 4 * logs.exp().std() / 200**0.5
    assert logs.mean() < p.log()


def one_pixel(dequantiser: int) -> tuple[Flow, torch.Tensor, torch.Tensor]:
    """A flow that is the identity on one pixel of five grey levels, the pixels 1/2, and their exact log probability under N(0, 1)."""
    p = torch.special.ndtr(torch.tensor(0.75)) - torch.special.ndtr(torch.tensor(0.25))
    return Flow(Chain([]), (1, 1, 1), levels=5, dequantiser=dequantiser), torch.full((4000, 1, 1, 1), 0.5), p.log()


@torch.no_grad()
def test_learned_noise_begins_as_uniform_noise(seeded):
    uniform, x, _ = one_pixel(0)
    learned = one_pixel(8)[0]
    rng = [torch.Generator().manual_seed(3) for _ in range(2)]
    torch.testing.assert_close(learned.log_prob(x, rng=rng[0]), uniform.log_prob(x, rng=rng[1]))
    model, images = IMAGES["glow"](levels=17, dequantiser=8), torch.randint(17, (5, 1, 8, 8)) / 8 - 1
    logs = model.dequantiser(images, torch.rand(5, 1, 8, 8) - 0.5)[1]
    torch.testing.assert_close(logs, torch.zeros(5), atol=1e-3, rtol=0)


def test_learned_noise_has_the_density_that_it_tells(seeded):
    """Of a shaken network: its log density is minus the log-determinant of the way from uniform numbers to noise."""
    model = shaken(IMAGES["realnvp"](levels=17, dequantiser=8)).dequantiser.double()
    x, uniform = torch.randn(1, 1, 8, 8).double(), torch.rand(1, 1, 8, 8).double() * 0.9 - 0.45
    noise, logs = model(x, uniform)
    jacobian = torch.autograd.functional.jacobian(lambda e: model(x, e)[0], uniform).reshape(64, 64)
    torch.testing.assert_close(logs[0], -torch.linalg.slogdet(jacobian)[1])
    assert noise.abs().max() < 0.5


def test_learned_noise_closes_the_bound(seeded):
    """On one pixel whose probability is known the gap falls below a third of uniform noise's, and stays a lower bound."""
    model, x, exact = one_pixel(8)
    with torch.no_grad():
        before = exact - model.log_prob(x, rng=torch.Generator().manual_seed(0)).mean()
    adam = torch.optim.Adam(model.parameters(), 2e-2)
    for step in range(150):
        model.draws = Draws(0, step)
        adam.zero_grad()
        sum(model.losses({"x": x[:256]}).values()).backward()
        adam.step()
    with torch.no_grad():
        logs = model.log_prob(x, rng=torch.Generator().manual_seed(1))
    after, error = exact - logs.mean(), logs.std() / len(logs) ** 0.5
    assert -4 * error < after < before / 3
    assert abs(logs.exp().mean() - exact.exp()) < 4 * logs.exp().std() / len(logs) ** 0.5


def test_learned_noise_is_refused_where_there_are_no_images():
    with pytest.raises(ValueError, match=r"for images \[C, H, W\], not for examples of shape \[3\]"):
        Flow(Chain([]), (3,), levels=5, dequantiser=4)
    with pytest.raises(ValueError, match="give levels, or no dequantiser"):
        Flow(Chain([]), (1, 4, 4), dequantiser=4)


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
        jacobian = torch.autograd.functional.jacobian(lambda one: net(x[None], one[None])[0], c[0])
        assert (jacobian != 0).any(1).all(), "the condition reaches every number, the first too"


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


@pytest.mark.parametrize("count", [1, 2, 3])
@torch.no_grad()
def test_the_halves_of_alternating_couplings_change_in_turn(count, seeded):
    """Against a loop that swaps the halves: the part that changed is the part that the next network sees."""
    couplings = alternating(5, count, lambda fixed, changing: MLP(fixed, 2 * changing, width=8))
    chain, x = shaken(Chain(couplings)).double(), torch.randn(7, 5).double()
    fixed, changing = x.split([3, 2], 1)
    logdet = torch.zeros(7).double()
    for coupling in chain.parts:
        log_scale, shift = affine(coupling.net(fixed))
        fixed, changing = changing * log_scale.exp() + shift, fixed
        logdet = logdet + log_scale.sum(1)
    z = torch.cat([changing, fixed] if count % 2 else [fixed, changing], 1)
    for got, want in zip([*chain(x), *chain.inverse(z)], [z, logdet, x, -logdet], strict=True):
        torch.testing.assert_close(got, want)


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
    torch.testing.assert_close(h.var((0, 2, 3), correction=0), torch.ones(8), atol=1e-3, rtol=0)


FAR = [(0.0, 1.0), (1e4, 1.0), (-1e4, 0.1), (0.0, 1e-4), (1.0, 1e-4), (0.0, 1e4), (1e6, 1e3)]
"""Means and deviations of data."""


@pytest.mark.parametrize(("mean", "std"), FAR)
@pytest.mark.parametrize("kind", [ActNorm, BatchNorm])
def test_norms_standardise_data_that_are_far_from_standard(kind, mean, std, seeded):
    layer, x = kind((3,)), (torch.randn(512, 3, dtype=torch.float64) * std + mean).float()
    layer.fitting = True  # of ActNorm; BatchNorm is in training
    z = layer(x).value
    assert z.std(0).sub(1).abs().max() < 0.01  # 0.002 is that the data's own deviation has n - 1 under it
    assert z.mean(0).abs().max() < 0.01


def test_a_channel_that_does_not_vary_keeps_its_scale():
    layer, x = ActNorm((2,)), torch.tensor([[0.1, 1.0]]).repeat(513, 1)
    layer.fit(x)
    assert torch.equal(layer.log_scale, torch.zeros(2))


class Plain:
    """Steepest descent: Adam would make steps of full length of gradients that are 0 up to rounding, as ActNorm's are at first."""

    lr = 0.01

    def of(self, module):
        return {"optimizer": torch.optim.SGD(module.parameters(), self.lr)}


@pytest.mark.parametrize("accumulate", [2, 4])
def test_actnorm_sees_the_whole_first_batch_however_it_is_cut(accumulate, seeded, tmp_path):
    """The same run, up to rounding, with micro-batches and without; resumed after the first step it is the same to the bit."""

    def train(micro, steps=3, path=None):
        torch.manual_seed(1)
        model, data = RealNVP((2,), depth=2, width=4, optim=Plain()), Density2D(name="moons")
        data.batch, data.accumulate, data.seed = 16, micro, 5
        model.prepare(5)
        trainer = L.Trainer(
            max_steps=steps, accelerator="cpu", devices=1, accumulate_grad_batches=micro, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        )  # fmt: skip
        if path:
            data.start = micro
        trainer.fit(model, data, ckpt_path=path, weights_only=True if path else None)
        return model.state_dict(), trainer

    (whole, _), (cut, _) = train(1), train(accumulate)
    for name, value in whole.items():
        torch.testing.assert_close(cut[name], value, msg=name, rtol=1e-4, atol=1e-5)
    train(accumulate, steps=1)[1].save_checkpoint(tmp_path / "one.ckpt")
    resumed, _ = train(accumulate, path=tmp_path / "one.ckpt")
    assert all(torch.equal(resumed[name], value) for name, value in cut.items())


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
    model = MAF((2,), depth=2, hidden=(16,), optim=Adam(1e-2))
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


def test_a_spline_is_the_paper_s_fraction_of_parabolas(seeded):
    """At the knots it has the heights and slopes that it was given; between them, eq. 19 of the paper (Gregory & Delbourgo 1982)."""
    raw, bound = torch.randn(1, 11, 1).double(), 2.0
    width, height = (1e-3 + (1 - 4e-3) * raw[0, i : i + 4, 0].softmax(0) for i in (0, 4))
    x, y = (torch.cat([torch.zeros(1).double(), share.cumsum(0)]) * 4 - 2 for share in (width, height))
    d = slopes(raw[:, 8:])[0, :, 0]
    for k in range(4):
        t = torch.linspace(0.01, 0.99, 25).double()
        s = (y[k + 1] - y[k]) / (x[k + 1] - x[k])
        wanted = y[k] + (y[k + 1] - y[k]) * (s * t**2 + d[k] * t * (1 - t)) / (
            s + (d[k + 1] + d[k] - 2 * s) * t * (1 - t)
        )
        at = (x[k] + t * (x[k + 1] - x[k]))[:, None].requires_grad_()
        got, logs = spline(at, raw.expand(25, -1, -1), bound)
        torch.testing.assert_close(got[:, 0], wanted)
        torch.testing.assert_close(logs.exp(), torch.autograd.grad(got.sum(), at)[0])
    edge = x[1:4, None] + 1e-9
    got, logs = spline(edge, raw.expand(3, -1, -1), bound)
    torch.testing.assert_close(got[:, 0], y[1:4], atol=1e-7, rtol=0)
    torch.testing.assert_close(logs.exp()[:, 0], d[1:4], atol=1e-6, rtol=1e-6)


def test_a_new_spline_flow_moves_nothing_but_by_its_mixing(seeded):
    x = torch.randn(50, 3)
    z, logdet = NSF((3,), depth=3, autoregressive=False).bijection(x)
    torch.testing.assert_close(z.norm(dim=1), x.norm(dim=1))
    torch.testing.assert_close(logdet, torch.zeros(50), atol=1e-5, rtol=0)
