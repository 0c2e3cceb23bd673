"""DDPM as a whole: its loss, its draws, its labels, its bound, and that it learns."""

import pytest
import torch
from torch import nn

from datamodules.labs.gauss_image import GaussImage
from lightning_modules.conditions import UNCONDITIONAL, label_rows
from lightning_modules.diffusion import schedules
from lightning_modules.diffusion.models.ddpm import ddpm
from lightning_modules.draws import Draws
from lightning_modules.metrics.gaussian import frechet_floor, frechet_of
from lightning_modules.metrics.likelihood import noise_excess
from lightning_modules.model import Density, Samples
from lightning_modules.nets.mlp import ResidualMLP
from lightning_modules.optim import Adam

TABLE = schedules.linear(50, 2e-3, 0.4)


class Oracle(nn.Module):
    """The exact noise of a Gaussian laboratory, called as a network is."""

    def __init__(self, data):
        super().__init__()
        self.data, self.anchor = data, nn.Parameter(torch.zeros(1))

    def forward(self, x, level, cond):
        s = level.exp()
        y = x * (1 + s**2).sqrt().reshape(-1, 1, 1, 1)
        return (y - self.data.denoise(y, s)) / s.reshape(-1, 1, 1, 1) + self.anchor


@pytest.fixture
def data():
    return GaussImage(size=3)


def test_loss_is_equation_14(data, seeded):
    model = ddpm(ResidualMLP(data.shape, width=8, depth=1), data.shape, levels=TABLE)
    nn.init.normal_(model.net.leave.weight)
    x = data.test(32)["x"]
    model.draws = Draws(4, 5)
    got = model.losses({"x": x})["noise_mse"]
    again = Draws(4, 5)
    s = TABLE[(again.uniform(32) * 50).long()].float()
    n, keep = again.normal(*x.shape), (1 / (1 + s**2)).reshape(-1, 1, 1, 1)
    predicted = model.net(keep.sqrt() * x + (1 - keep).sqrt() * n, s.log(), UNCONDITIONAL)
    torch.testing.assert_close(got, (predicted - n).square().mean(), atol=1e-4, rtol=1e-4)


def test_exact_network_draws_the_data_and_has_no_excess(data):
    """The mean Frechet distance of 20 sets is that of 20 true ones; a set's scatters by 0.7, so a factor 2 is 4.5 sigma."""
    model = ddpm(Oracle(data), data.shape, levels=schedules.linear(500, 2e-4, 0.04), variance=schedules.forward)
    rng, truth = torch.Generator().manual_seed(0), (data.mean, data.cov)
    excess, floor = noise_excess(model.denoiser(), data.denoise, data.test(512)["x"], model.bound.levels, rng=rng)
    assert excess < 1e-6 < floor
    sets = model.sample(20 * 500, rng=rng, batch=10_000).chunk(20)
    drawn = sum(frechet_of(x, truth) for x in sets) / 20
    assert drawn < 2 * frechet_floor(lambda n, g: data.draw(n, g)["x"], truth, 500)


def test_bound_of_the_exact_network_is_the_best(data):
    model = ddpm(Oracle(data), data.shape, levels=TABLE)
    x = data.draw(4000, torch.Generator().manual_seed(2))["x"]
    nats = model.log_prob(x, rng=torch.Generator().manual_seed(0)).double()
    assert abs(nats.mean() - data.best_bound(TABLE)) < 4 * nats.std() / 4000**0.5


def test_training_brings_the_excess_down(data, seeded):
    model = ddpm(ResidualMLP(data.shape, width=32, depth=1), data.shape, levels=TABLE, optim=Adam(5e-3))
    made = model.configure_optimizers()

    def excess():
        rng = torch.Generator().manual_seed(1)
        return noise_excess(model.denoiser(), data.denoise, data.test(2048)["x"], model.bound.levels, rng=rng)

    before, floor = excess()
    for step in range(200):
        model.draws = Draws(0, step)
        made["optimizer"].zero_grad()
        model.losses({"x": data.draw(128, torch.Generator().manual_seed(step))["x"]})["noise_mse"].backward()
        made["optimizer"].step()
    assert before > floor
    assert excess()[0] < 0.2 * before


def test_draws_repeat_with_the_generator_and_leave_the_model_in_training(data):
    model = ddpm(ResidualMLP(data.shape, width=8, depth=1), data.shape, levels=TABLE)
    one = model.sample(5, rng=torch.Generator().manual_seed(3), steps=7, batch=2)
    two = model.sample(5, rng=torch.Generator().manual_seed(3), steps=7, batch=2)
    assert one.shape == (5, 1, 3, 3)
    assert torch.equal(one, two)
    assert model.training
    assert isinstance(model, Samples)
    assert isinstance(model, Density)


def test_clipped_draws_stay_in_range(data):
    model = ddpm(ResidualMLP(data.shape, width=8, depth=1), data.shape, levels=TABLE, clip=True)
    assert model.sample(64, steps=5).abs().max() <= 1


class Spy(nn.Module):
    """Answers 0 and remembers the rows of its labels' embedding; the row `classes` is the null."""

    def __init__(self, classes=3):
        super().__init__()
        self.anchor, self.labels, self.classes = nn.Parameter(torch.zeros(1)), [], classes

    def forward(self, x, level, cond):
        self.labels.append(label_rows(cond, self.classes, len(x), x.device))
        return x * 0 + self.anchor


def test_labels_are_hidden_at_the_rate_asked():
    """Within 5 standard deviations of a binomial."""
    model = ddpm(Spy(10), (2,), levels=TABLE, label_drop=0.3)
    model.losses({"x": torch.zeros(4000, 2), "label": torch.zeros(4000, dtype=torch.long)})
    hidden = (model.net.labels[0] == 10).sum().item()
    assert abs(hidden - 1200) < 5 * (4000 * 0.3 * 0.7) ** 0.5
    assert ((model.net.labels[0] == 10) | (model.net.labels[0] == 0)).all()


def test_guidance_asks_with_and_without_labels():
    model = ddpm(Spy(), (2,), levels=TABLE, label_drop=0.1)
    model.sample(4, torch.tensor([0, 1, 2, 0]), steps=2, guidance=1.0, batch=3)
    asked = [label.tolist() for label in model.net.labels]
    assert asked[:2] == [[0, 1, 2], [3, 3, 3]]
    assert asked[-2:] == [[0], [3]]
    model.net.labels.clear()
    model.sample(2, steps=1)
    assert model.net.labels[0].tolist() == [3, 3]


def test_labels_without_classes_are_refused(data):
    model = ddpm(ResidualMLP(data.shape, width=8, depth=1), data.shape, levels=TABLE)
    with pytest.raises(ValueError, match="without labels"):
        model.sample(1, torch.zeros(1, dtype=torch.long))


def test_warm_up_rises_linearly_and_stays():
    made = ddpm(Spy(), (2,), levels=TABLE, optim=Adam(1.0, 4)).configure_optimizers()
    rates = []
    for _ in range(6):
        rates.append(made["optimizer"].param_groups[0]["lr"])
        made["optimizer"].step()
        made["lr_scheduler"]["scheduler"].step()
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def textbook(steps=12):
    """A small model in float64, its raw network of (x_t, t), and alpha-bar; t counts from 0."""
    beta = torch.linspace(0.01, 0.4, steps, dtype=torch.float64)
    net = ResidualMLP((3,), width=16, depth=1)
    nn.init.normal_(net.leave.weight, std=0.3)
    model = ddpm(net, (3,), levels=schedules.from_betas(beta)).double()
    bar = (1 - beta).cumprod(0)
    return model, lambda x, t: net(x, ((1 - bar[t]) / bar[t]).sqrt().log().expand(len(x))), beta, bar


@torch.no_grad()
def test_samples_are_those_of_algorithm_2(seeded):
    """In the paper's units, x_t with alpha-bar, from the same noise; sigma_t^2 = beta-tilde."""
    model, net, beta, bar = textbook()
    rng = torch.Generator().manual_seed(0)
    drawn = model.sample(6, rng=rng)
    rng.manual_seed(0)
    x = torch.randn(6, 3, generator=rng, dtype=torch.float64)
    for t in reversed(range(len(beta))):
        x = (x - beta[t] / (1 - bar[t]).sqrt() * net(x, t)) / (1 - beta[t]).sqrt()
        if t:
            z = torch.randn(6, 3, generator=rng, dtype=torch.float64)
            x = x + ((1 - bar[t - 1]) / (1 - bar[t]) * beta[t]).sqrt() * z
    torch.testing.assert_close(drawn, x, rtol=0, atol=1e-10)


@torch.no_grad()
def test_the_bound_is_equation_5(seeded):
    """KL(q(x_T | x0) | N(0, I)) + sum of KL(q(x_{t-1} | x_t, x0) | p(x_{t-1} | x_t)) - log p(x0 | x_1), from the same noise."""
    model, net, beta, bar = textbook()
    x0, rng = torch.randn(5, 3, dtype=torch.float64), torch.Generator().manual_seed(0)
    nats = model.log_prob(x0, rng=rng)
    rng.manual_seed(0)

    def normal(mean, variance):
        return torch.distributions.Normal(mean, variance.sqrt())

    def kl(p, q):
        return torch.distributions.kl_divergence(p, q).sum(1)

    def noised(t):
        n = torch.randn(5, 3, generator=rng, dtype=torch.float64)
        return bar[t].sqrt() * x0 + (1 - bar[t]).sqrt() * n

    def mean(x, t):
        return (x - beta[t] / (1 - bar[t]).sqrt() * net(x, t)) / (1 - beta[t]).sqrt()

    total = kl(normal(bar[-1].sqrt() * x0, 1 - bar[-1]), normal(torch.zeros(3, dtype=torch.float64), torch.ones(())))
    total = total - normal(mean(noised(0), 0), beta[0]).log_prob(x0).sum(1)
    for t in range(1, len(beta)):
        x, tilde = noised(t), (1 - bar[t - 1]) / (1 - bar[t]) * beta[t]
        true = bar[t - 1].sqrt() * beta[t] * x0 + (1 - beta[t]).sqrt() * (1 - bar[t - 1]) * x
        total = total + kl(normal(true / (1 - bar[t]), tilde), normal(mean(x, t), tilde))
    torch.testing.assert_close(nats, -total, rtol=1e-9, atol=0)
