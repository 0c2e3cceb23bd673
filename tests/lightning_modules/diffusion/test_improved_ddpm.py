"""Improved DDPM: the learned variance and its optimum, the two objectives, and the resampler."""

import itertools
import math
from functools import partial

import pytest
import torch
from torch import nn

from datamodules.labs.gauss_image import GaussImage
from lightning_modules.conditions import UNCONDITIONAL
from lightning_modules.diffusion import schedules
from lightning_modules.diffusion.models.ddpm import ddpm
from lightning_modules.diffusion.models.improved_ddpm import ImprovedDDPM
from lightning_modules.diffusion.resampling import KEPT, Resampler
from lightning_modules.draws import Draws
from lightning_modules.nets.mlp import ResidualMLP
from lightning_modules.objectives import discretised_gaussian_log_prob

DOUBLE = torch.float64
TABLE = schedules.linear(200, 5e-4, 0.1)


class Exact(nn.Module):
    """The exact noise of a Gaussian laboratory, and the shares v of a function (sigma, sigma_next) -> [D]."""

    def __init__(self, data, share):
        super().__init__()
        self.data, self.share, self.anchor = data, share, nn.Parameter(torch.zeros(1))

    def forward(self, x, level, cond):
        s = level.exp()
        y = x * (1 + s**2).sqrt().reshape(-1, 1, 1, 1)
        n = (y - self.data.denoise(y, s)) / s.reshape(-1, 1, 1, 1)
        index = (TABLE[None] - s[:, None].double()).abs().argmin(1)
        v = torch.stack([self.share(TABLE[i], TABLE[i - 1] if i else TABLE.new_zeros(())) for i in index.tolist()])
        return torch.cat([n, (2 * v - 1).reshape(n.shape).to(n)], 1) + self.anchor


def best_share(data):
    """v* of each pixel for a step of the table; of the first step 1, the variance that its decoder has in DDPM."""

    def share(s, r):
        if r == 0:
            return torch.ones(len(data.mean), dtype=DOUBLE)
        low, high = schedules.posterior(s, r).log(), schedules.forward(s, r).log()
        return (data.best_variance(s, r).log() - low) / (high - low)

    return share


def test_the_best_shares_of_the_laboratory():
    """0.92 to 0.97 in the first step with a variance of its own, 0.31 to 0.52 in the 20th, 0.25 in the last."""
    data = GaussImage(size=8)
    share = best_share(data)
    steps = {k: share(TABLE[k], TABLE[k - 1]) for k in (1, 20, 199)}
    assert steps[1].min().item() == pytest.approx(0.92, abs=0.006)
    assert steps[1].max().item() == pytest.approx(0.97, abs=0.006)
    assert steps[20].min().item() == pytest.approx(0.31, abs=0.02)
    assert steps[20].max().item() == pytest.approx(0.52, abs=0.02)
    assert steps[199].mean().item() == pytest.approx(0.25, abs=0.01)


def bits_of_steps(data, variance):
    """The terms of all steps but the first and the prior's, in bits per dimension, in closed form; variance: (s, r) -> [D]."""
    axes, v = data._axes, data.eigenvalues
    total = 0.0
    for r, s in itertools.pairwise(TABLE):
        error = (1 - r**2 / s**2) ** 2 * (axes.square() @ (v * s**2 / (v + s**2)))
        true, ours = schedules.posterior(s, r), variance(s, r)
        total += 0.5 * ((ours / true).log() + (true + error) / ours - 1).sum()
    return total.item() / len(data.mean) / math.log(2)


def test_the_best_variance_gains_what_the_closed_form_says():
    """3.202 bits per dimension with `forward`, 4.025 with `posterior`, 3.134 with the best variances."""
    data = GaussImage(size=8)
    assert bits_of_steps(data, schedules.forward) == pytest.approx(3.202, abs=2e-3)
    assert bits_of_steps(data, schedules.posterior) == pytest.approx(4.025, abs=2e-3)
    assert bits_of_steps(data, data.best_variance) == pytest.approx(3.134, abs=2e-3)
    gain = data.gain_of_variance(TABLE) / 64 / math.log(2)
    assert gain == pytest.approx(bits_of_steps(data, schedules.forward) - bits_of_steps(data, data.best_variance))


def test_the_bound_of_the_exact_network_has_the_learned_variance():
    """Beside the same network with the forward variance: what the steps gain, within 5 standard errors of the mean difference."""
    data = GaussImage(size=8)
    ours = ImprovedDDPM(Exact(data, best_share(data)), data.shape, levels=TABLE).double()
    other = ImprovedDDPM(
        Exact(data, lambda s, r: torch.ones(len(data.mean), dtype=DOUBLE)), data.shape, levels=TABLE
    ).double()
    x = data.test(64)["x"].double()
    bits = [m.bits_per_dim(x, rng=torch.Generator().manual_seed(0)) for m in (ours, other)]
    gain = bits[1] - bits[0]
    expected = bits_of_steps(data, schedules.forward) - bits_of_steps(data, data.best_variance)
    assert abs(gain.mean().item() - expected) < 5 * gain.std().item() / len(x) ** 0.5


def test_with_all_of_the_larger_variance_it_is_ddpm():
    """The same network with v = 1: the same draws and the same bound as DDPM with the forward variance."""
    data = GaussImage(size=3)

    class Noise(nn.Module):
        def __init__(self, outputs):
            super().__init__()
            self.outputs, self.anchor = outputs, nn.Parameter(torch.zeros(1))

        def forward(self, x, level, cond):
            n = x.tanh() + self.anchor
            return torch.cat([n, torch.ones_like(n)], 1) if self.outputs == 2 else n

    ours = ImprovedDDPM(Noise(2), data.shape, levels=TABLE).double()
    theirs = ddpm(Noise(1), data.shape, levels=TABLE, variance=schedules.forward).double()
    draws = [m.sample(5, rng=torch.Generator().manual_seed(1), steps=20) for m in (ours, theirs)]
    torch.testing.assert_close(*draws)
    x = data.test(4)["x"].double()
    bounds = [m.log_prob(x, rng=torch.Generator().manual_seed(1)) for m in (ours, theirs)]
    torch.testing.assert_close(*bounds)


def loud(shape, **more):
    net = ResidualMLP(shape, width=16, depth=1, outputs=2)
    nn.init.normal_(net.leave.weight, std=0.1)
    return ImprovedDDPM(net, shape, **{"levels": schedules.cosine(50)} | more)


def test_the_bound_moves_the_variance_alone_in_the_hybrid_objective(seeded):
    model, x = loud((2, 2, 2)), torch.randn(32, 2, 2, 2)
    model.draws = Draws(3, 4)
    model.losses({"x": x})["bound"].backward()
    noise, share = model.net.leave.weight.grad.reshape(4, 4, -1).split(2)
    assert (noise == 0).all()
    assert (share != 0).any()


def test_terms_of_the_loss_are_those_of_the_bound(seeded):
    """The mean of 50 times the term over all indices is the bound of the same noise, without the prior's term."""
    model, x = loud((2,)).double(), torch.randn(1, 2, dtype=DOUBLE)
    n = torch.randn(1, 2, dtype=DOUBLE)
    index = torch.arange(50)
    levels = model.bound.levels
    many, noise = x.expand(50, 2), n.expand(50, 2)
    answer, v = model.split(many + levels[:, None] * noise, levels, UNCONDITIONAL)
    found = model.term(many, noise, index, answer, v).sum() * math.log(2) * 2

    def by_hand(k):
        s, r = levels[k], levels[k - 1] if k else torch.zeros((), dtype=DOUBLE)
        variance = model.variance(v[k], s, r)
        mean = answer[k] + r**2 / s**2 * (many[k] + s * noise[k] - answer[k])
        if k == 0:
            return -torch.distributions.Normal(mean, variance.sqrt()).log_prob(many[k]).sum()
        true = many[k] + r**2 / s**2 * s * noise[k]
        normal = torch.distributions.Normal
        p, q = normal(true, schedules.posterior(s, r).sqrt()), normal(mean, variance.sqrt())
        return torch.distributions.kl_divergence(p, q).sum()

    torch.testing.assert_close(found, sum(by_hand(k) for k in range(50)))


def test_gradients_are_finite_where_the_decoder_is_of_grey_levels(seeded):
    """Estimates at high levels are far from what the decoder of the first level can have, and their rows do not go through it."""
    model = loud(
        (1, 4, 4), decoder=partial(discretised_gaussian_log_prob, levels=17), levels=schedules.linear(25, 4e-3, 0.8)
    )
    x = torch.randint(0, 17, (256, 1, 4, 4)) / 8.0 - 1
    model.draws = Draws(3, 4)
    losses = model.losses({"x": x})
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(torch.isfinite(p.grad).all() for p in model.net.parameters())


def test_variances_are_between_the_two_fixed_ones():
    model, (s, r) = loud((2,)), TABLE[[40, 39]]
    for v, expected in ((0.0, schedules.posterior(s, r)), (1.0, schedules.forward(s, r))):
        torch.testing.assert_close(model.variance(torch.tensor([[v]], dtype=DOUBLE), s, r)[0, 0], expected)
    levels = model.bound.levels
    zero = torch.zeros((), dtype=DOUBLE)
    first = model.variance(torch.zeros(1, 1, dtype=DOUBLE), levels[0], zero)[0, 0]
    torch.testing.assert_close(first, schedules.posterior(levels[1], levels[0]) / (1 + levels[0] ** 2))


# ---- resampling


def full(terms=20):
    made = Resampler(terms)
    for k in range(KEPT):
        made.add(torch.arange(terms), torch.arange(terms) + 1.0 + 0.1 * k)
    return made


def test_it_is_uniform_until_every_term_has_its_losses():
    made = Resampler(4)
    for _ in range(KEPT):
        made.add(torch.tensor([0, 1, 2]), torch.ones(3))
    torch.testing.assert_close(made.probability(), torch.full((4,), 0.25, dtype=DOUBLE))
    index, weight = made.draw(torch.linspace(0, 0.99, 8))
    assert index.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    torch.testing.assert_close(weight, torch.ones(8, dtype=DOUBLE))


def test_it_draws_by_the_root_of_the_mean_square_of_the_last_ten():
    made = full()
    made.add(
        torch.zeros(KEPT, dtype=torch.long), torch.full((KEPT,), 9.0)
    )  # the older losses of the first term are forgotten
    last = torch.stack([torch.arange(20) + 1.0 + 0.1 * k for k in range(KEPT)], 1).double()
    last[0] = 9.0
    root = last.square().mean(1).sqrt()
    torch.testing.assert_close(made.probability(), 0.999 * root / root.sum() + 0.001 / 20, rtol=1e-6, atol=0)


def test_the_weighted_loss_is_unbiased():
    """|error| < 4 standard errors of 100,000 draws: a false alarm in 16,000."""
    made, loss = full(), torch.rand(20, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    index, weight = made.draw(torch.rand(100_000, generator=torch.Generator().manual_seed(1)))
    found = weight * loss[index]
    assert abs(found.mean() - loss.mean()) < 4 * found.std() / len(found) ** 0.5


def test_the_history_is_a_part_of_the_state():
    made, other = full(), Resampler(20)
    other.load_state_dict(made.state_dict())
    torch.testing.assert_close(other.probability(), made.probability())
