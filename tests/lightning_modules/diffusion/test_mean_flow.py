"""MeanFlow on a Gaussian of variance V, whose mean velocity is u = z (1 - sig_r / sig_t) / (t - r), sig_t^2 = (1 - t)^2 V + t^2."""

import pytest
import torch
from torch import nn

from lightning_modules.conditions import Cond
from lightning_modules.diffusion.models.mean_flow import MeanFlow
from lightning_modules.draws import Draws
from lightning_modules.nets.mlp import ResidualMLP

DOUBLE = torch.float64
V = 0.3


def sig(t):
    return ((1 - t) ** 2 * V + t**2).sqrt()


def gain(r, t):
    """u over z; where r = t the velocity itself, the derivative of log sig."""
    apart = t - r
    velocity = (t - (1 - t) * V) / sig(t) ** 2
    return torch.where(apart > 0, (1 - sig(r) / sig(t)) / torch.where(apart > 0, apart, 1), velocity)


class Exact(nn.Module):
    """The network of a MeanFlow model that is the exact mean velocity."""

    def __init__(self):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1, dtype=DOUBLE))

    def forward(self, z, t, cond):
        t = t[:, None]
        return gain(t - cond.numbers, t) * z + self.anchor


def model(net, **more):
    return MeanFlow(net, (1,), **more).double()


def targets_of(made, x0, monkeypatch):
    """z, r, t, v and the target of the loss, of every example."""
    seen = {}
    monkeypatch.setattr(
        "lightning_modules.diffusion.targets.squared",
        lambda u, goal: seen.update(u=u, goal=goal) or (u - goal).square().flatten(1).mean(1),
    )
    made.draws, again = Draws(2, 0), Draws(2, 0)
    made.losses({"x": x0})
    made.draws = again
    r, t = made.times(len(x0), x0)
    n = again.normal(*x0.shape).to(x0)
    return (1 - t[:, None]) * x0 + t[:, None] * n, r, t, n - x0, seen["goal"]


def test_the_target_is_the_identity_of_the_paper(monkeypatch):
    """v - (t - r) (v du/dz + du/dt), with the derivatives of the exact u by hand, here by differences of 1e-6."""
    x0 = V**0.5 * torch.randn(500, 1, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    z, r, t, v, goal = targets_of(model(Exact()), x0, monkeypatch)
    keep = t - r > 0.01
    h = 1e-6
    change = v[:, 0] * gain(r, t) + z[:, 0] * (gain(r, t + h) - gain(r, t - h)) / (2 * h)
    torch.testing.assert_close(goal[keep, 0], (v[:, 0] - (t - r) * change)[keep], atol=1e-6, rtol=1e-6)
    same = t == r
    assert 0.15 < same.double().mean() < 0.35 and torch.equal(goal[same], v[same])


def test_the_exact_mean_velocity_is_the_mean_of_its_own_targets(monkeypatch):
    """The regression of target - u on z has slope 0 in each bin of the times: 5 standard errors in 6 bins, 1 in 100,000."""
    x0 = V**0.5 * torch.randn(200_000, 1, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    z, r, t, _, goal = targets_of(model(Exact(), mean=0.0, std=1.0), x0, monkeypatch)
    error, unit = goal[:, 0] - gain(r, t) * z[:, 0], z[:, 0] / sig(t)
    for low, high in ((0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 1.0)):
        rows = (t - r > low) & (t - r <= high)
        product = (error * unit)[rows]
        assert abs(product.mean()) < 5 * product.std() / len(product) ** 0.5
    wrong = (goal[:, 0] - gain(t, t) * z[:, 0]) * unit * (t - r > 0.2)
    assert abs(wrong.mean()) > 20 * wrong.std() / len(wrong) ** 0.5, "the velocity itself is another function"


def test_the_loss_is_the_weighted_square_of_the_paper(monkeypatch, seeded):
    net = ResidualMLP((1,), width=16, depth=1, numbers=1)
    nn.init.normal_(net.leave.weight, std=0.3)
    made, x0 = model(net, power=0.6, floor=0.02), torch.randn(64, 1, dtype=DOUBLE)
    z, r, t, _, goal = targets_of(made, x0, monkeypatch)
    made.draws = Draws(2, 0)
    error = (made.mean_velocity(z, r, t) - goal).square().mean(1)
    expected = (error / (error + 0.02) ** 0.6).mean()
    loss = made.losses({"x": x0})["mean_velocity"]
    torch.testing.assert_close(loss, expected)
    loss.backward()
    weight = net.leave.weight.grad
    made.zero_grad()
    fixed = (made.mean_velocity(z, r, t) - goal.detach()).square().mean(1)
    (fixed / (fixed.detach() + 0.02) ** 0.6).mean().backward()
    torch.testing.assert_close(weight, net.leave.weight.grad)


@pytest.mark.parametrize("steps", [1, 4])
def test_the_exact_network_draws_the_data_in_any_number_of_steps(steps):
    """Its steps are exact, so that the variance is V within 5 standard errors and what one step draws four draw, too."""
    made = model(Exact())
    x, one = (made.sample(20_000, steps=k, rng=torch.Generator().manual_seed(0), batch=20_000) for k in (steps, 1))
    assert abs(x.var().item() - V) < 5 * V * (2 / 20_000) ** 0.5
    torch.testing.assert_close(x, one, rtol=1e-5, atol=1e-6)


def test_the_model_is_a_denoiser_where_both_times_are_one():
    """The posterior mean V y / (V + sigma^2)."""
    y, sigma = torch.linspace(-3, 3, 7, dtype=DOUBLE)[:, None], torch.linspace(0.1, 5, 7, dtype=DOUBLE)
    torch.testing.assert_close(model(Exact()).denoiser()(y, sigma), V * y / (V + sigma[:, None] ** 2))


def test_it_is_also_sampled_as_a_flow(seeded):
    made = model(Exact())
    x = made.sample(20_000, sampler="heun", grid="karras", steps=64, rng=torch.Generator().manual_seed(0))
    assert abs(x.var().item() - V) < 0.05 * V


def test_times_are_ordered_and_differ_for_their_share():
    """Within 5 standard errors; two workers draw what one does."""
    made, like = model(Exact(), apart=0.6), torch.zeros(1, dtype=DOUBLE)
    made.draws = Draws(1, 2)
    r, t = made.times(10_000, like)
    assert (r <= t).all() and r.min() > 0 and t.max() < 1
    assert abs((r < t).double().mean().item() - 0.6) < 5 * (0.24 / 10_000) ** 0.5
    parts = []
    for part in range(2):
        made.draws = Draws(1, 2, part, 2)
        parts.append(made.times(5_000, like))
    assert torch.equal(torch.cat([part[0] for part in parts]), r)


def test_conditions_are_refused():
    with pytest.raises(ValueError, match="takes no conditions"):
        model(Exact()).sample(2, Cond(label=torch.zeros(2, dtype=torch.long)))
