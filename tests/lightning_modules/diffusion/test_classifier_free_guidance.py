"""Classifier-free guidance as its function builds it: levels and steps in the paper's units, the guided law of a Gaussian, its options."""

import math

import pytest
import torch
from torch import nn

from lightning_modules.conditions import UNCONDITIONAL, Cond
from lightning_modules.diffusion import guidance, schedules
from lightning_modules.diffusion.models.classifier_free_guidance import at_any_time, classifier_free_guidance, guide
from lightning_modules.draws import Draws
from lightning_modules.nets.mlp import ResidualMLP
from tests.other_device import other_device

DOUBLE = torch.float64
CLASS, ALL = 0.3, 1.2
"""Variances of a class N(0, CLASS) in N(0, ALL)."""
LABEL = torch.zeros(4, dtype=torch.long)


class ExactNoise(nn.Module):
    """The noise of N(0, CLASS) where the label is given, of N(0, ALL) where it is absent."""

    def __init__(self):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, x, level, cond):
        s, v = level.exp()[:, None], ALL if cond.label is None else CLASS
        return s * x * (1 + s**2).sqrt() / (v + s**2) + self.anchor


def exact(**more):
    return classifier_free_guidance(ExactNoise(), (1,), **{"reach": 10.0, **more}).double()


def loud(**more):
    net = ResidualMLP((3,), width=8, depth=1, classes=4)
    nn.init.normal_(net.leave.weight, std=0.3)
    return classifier_free_guidance(net, (3,), **more).double()


def test_levels_are_those_of_section_2():
    """lambda = -2 log tan(a u + b), b = arctan(exp(-20 / 2)), a = arctan(exp(20 / 2)) - b, where lambda = -2 log sigma."""
    u = torch.linspace(0, 0.999, 50, dtype=DOUBLE)
    b = math.atan(math.exp(-10))
    a = math.atan(math.exp(10)) - b
    torch.testing.assert_close(-2 * at_any_time(u, 20.0).log(), -2 * torch.tan(a * u + b).log())


def test_the_loss_is_algorithm_1(seeded):
    """|epsilon(z_lambda, c) - epsilon|^2 with z = alpha x + sigma epsilon, where c is hidden for a share of the examples."""
    model, x, label = loud(drop=0.3, reach=8.0), torch.randn(64, 3, dtype=DOUBLE), torch.arange(64) % 4
    model.draws = Draws(4, 5)
    found = model.losses({"x": x, "label": label})["noise_mse"]
    again = Draws(4, 5)
    s, n = at_any_time(again.uniform(64), 8.0), again.normal(64, 3).double()
    hidden = again.uniform(64) < 0.3
    assert 8 < hidden.sum() < 32
    alpha = (1 + s**2).rsqrt()[:, None]
    answer = model.net(alpha * x + alpha * s[:, None] * n, s.log(), Cond(label=label, hidden={"label": hidden}))
    torch.testing.assert_close(found, (answer - n).square().mean(), rtol=1e-6, atol=0)


def test_steps_are_those_of_algorithm_2():
    """Draws of N(mu(z, x), (sigma-tilde^2)^(1 - v) (sigma^2)^v) in the paper's units."""
    s, r, v = torch.tensor(1.7, dtype=DOUBLE), torch.tensor(0.9, dtype=DOUBLE), 0.3
    model = exact(share=v)
    z = torch.randn(5, 1, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    mean, variance = model.step(model.denoiser(), UNCONDITIONAL)(z * (1 + s**2).sqrt(), s, r)
    alpha, alpha_next = (1 + s**2).rsqrt(), (1 + r**2).rsqrt()
    e = s * alpha * z / (ALL * alpha**2 + (s * alpha) ** 2)  # epsilon of N(0, ALL)
    x = (z - s * alpha * e) / alpha
    keep = (-2 * s.log() + 2 * r.log()).exp()  # exp(lambda - lambda')
    mu = keep * (alpha_next / alpha) * z + (1 - keep) * alpha_next * x
    tilde, large = (1 - keep) * (r * alpha_next) ** 2, (1 - keep) * (s * alpha) ** 2
    torch.testing.assert_close(mean / (1 + r**2).sqrt(), mu)
    torch.testing.assert_close((variance / (1 + r**2)).squeeze(), tilde ** (1 - v) * large**v)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_own_steps_without_guidance_draw_the_class(share):
    """Of 10,000 draws by 256 steps, the variance within 4 standard errors and 2% for the steps' error."""
    model, label = exact(share=share), torch.zeros(10_000, dtype=torch.long)
    drawn = model.sample(10_000, label, rng=torch.Generator().manual_seed(0), batch=10_000)
    assert drawn.var().item() == pytest.approx(CLASS, rel=4 * (2 / 10_000) ** 0.5 + 0.02)


def gain(model, w):
    """The variance that the flow gives to a Gaussian, by Heun's method from the guided law at the highest level."""
    drawn = model.sample(4, LABEL, guidance=w, sampler="heun", rng=torch.Generator().manual_seed(0), steps=256)
    top = model.draw.grid(256)[0].item()
    y = torch.randn(4, 1, dtype=DOUBLE, generator=torch.Generator().manual_seed(0)) * (1 + top**2) ** 0.5
    return ((drawn / y).square() * (CLASS + top**2) ** (1 + w) / (ALL + top**2) ** w).mean().item()


@pytest.mark.parametrize("w", [0.0, 0.5, 1.5])
def test_the_guided_law_of_a_gaussian_is_the_closed_form(w):
    """v (v / V)^w: 0.0375 for w = 1.5, while the tilted density p(x) p(c | x)^(1 + w) has 0.1412."""
    assert gain(exact(), w) == pytest.approx(CLASS * (CLASS / ALL) ** w, rel=0.02)
    if w == 1.5:
        assert gain(exact(), w) == pytest.approx(0.0375, rel=0.02)


def test_an_interval_guides_part_of_the_way():
    """In (low, high] the flow has its guided gain, outside the plain one: v [(v + s^2) / (V + s^2)]^w between the two levels."""
    low, high, w = 0.3, 2.0, 1.5

    def ratio(s):
        return ((CLASS + s**2) / (ALL + s**2)) ** w

    model, plain = exact(interval=(low, high)), exact()
    top = plain.draw.grid(256)[0].item()
    found = gain(model, w) / ratio(top)  # `gain` starts from the guided law at the top, here it is the plain one
    assert found == pytest.approx(CLASS * ratio(low) / ratio(high), rel=0.05)


def test_options_of_guidance_are_joined():
    cond, null = (lambda y, s: 0.5 * y), (lambda y, s: 0.1 * y.roll(1, -1))
    y, both = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)), guide((0.5, 2.0), 0.7)(cond, null, 3.0)
    inside, outside = torch.ones(4), torch.full((4,), 3.0)
    torch.testing.assert_close(both(y, inside), guidance.rescaled(0.7)(cond, null, 3.0)(y, inside))
    assert torch.equal(both(y, outside), cond(y, outside))
    assert guide() is guidance.guided


def test_the_bound_of_levels_is_that_of_the_sampler():
    model = exact(steps=16)
    torch.testing.assert_close(model.bound.levels.flip(0), schedules.cosine_grid(16, 10.0)[:-1])
    assert model.log_prob(torch.zeros(2, 1, dtype=DOUBLE), LABEL[:2]).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"drop": 0.0}, "hidden for a share of the examples between 0 and 1, not 0"),
        ({"drop": 1.0}, "between 0 and 1"),
        ({"rescale": 1.5}, r"in \[0, 1\], not 1.5"),
        ({"interval": (2.0, 0.5)}, "from 2 to 0.5 are no interval"),
        ({"interval": (-1.0, 0.5)}, "no interval"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        exact(**settings)


def test_labels_that_cannot_be_are_refused():
    model = loud(steps=4)
    with pytest.raises(ValueError, match="give label"):
        model.sample(4, guidance=1.0)
    for label in (4, -1):
        with pytest.raises(ValueError, match=rf"Labels must be in 0\.\.3, not {label}\.\.{label}"):
            model.sample(4, torch.full((4,), label), guidance=1.0)
    with pytest.raises(ValueError, match="4 examples are to be drawn, but the conditions are of 3"):
        model.sample(4, LABEL[:3], guidance=1.0)


def test_labels_are_refused_on_another_device_too():
    """Where networks do not look at the labels, because a look would wait for the device."""
    with other_device() as device:
        model = loud(steps=2).to(device)
        assert model.sample(4, LABEL).device == device
        with pytest.raises(ValueError, match=r"Labels must be in 0\.\.3, not 4\.\.4"):
            model.sample(4, torch.full((4,), 4))
