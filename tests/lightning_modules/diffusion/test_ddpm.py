"""DDPM as a whole: its loss, its draws, its labels, its bound, and that it learns."""

import pytest
import torch
from torch import nn

from datamodules.labs.gauss_image import GaussImage
from lightning_modules.diffusion import schedules
from lightning_modules.diffusion.models.ddpm import DDPM
from lightning_modules.draws import Draws
from lightning_modules.metrics.gaussian import frechet_floor, frechet_of
from lightning_modules.metrics.likelihood import noise_excess
from lightning_modules.model import Density, Samples
from lightning_modules.nets.mlp import MLP

TABLE = schedules.linear(50, 2e-3, 0.4)


class Oracle(nn.Module):
    """The exact noise of a Gaussian laboratory, called as a network is."""

    def __init__(self, data):
        super().__init__()
        self.data, self.anchor = data, nn.Parameter(torch.zeros(1))

    def forward(self, x, level, label=None):
        s = level.exp()
        y = x * (1 + s**2).sqrt().reshape(-1, 1, 1, 1)
        return (y - self.data.denoise(y, s)) / s.reshape(-1, 1, 1, 1) + self.anchor


@pytest.fixture
def data():
    return GaussImage(size=3)


def test_loss_is_equation_14(data, seeded):
    model = DDPM(MLP(data.shape, width=8, depth=1), data.shape, levels=TABLE)
    nn.init.normal_(model.net.leave.weight)
    x = data.test(32)["x"]
    model.draws = Draws(4, 5)
    got = model.losses({"x": x})["noise_mse"]
    again = Draws(4, 5)
    s = TABLE[(again.uniform(32) * 50).long()].float()
    n, keep = again.normal(*x.shape), (1 / (1 + s**2)).reshape(-1, 1, 1, 1)
    predicted = model.net(keep.sqrt() * x + (1 - keep).sqrt() * n, s.log(), None)
    torch.testing.assert_close(got, (predicted - n).square().mean(), atol=1e-4, rtol=1e-4)


def test_exact_network_draws_the_data_and_has_no_excess(data):
    """The mean Frechet distance of 20 sets is that of 20 true ones; a set's scatters by 0.7, so a factor 2 is 4.5 sigma."""
    model = DDPM(Oracle(data), data.shape, levels=schedules.linear(500, 2e-4, 0.04), variance=schedules.forward)
    rng, truth = torch.Generator().manual_seed(0), (data.mean, data.cov)
    excess, floor = noise_excess(model.denoiser(), data.denoise, data.test(512)["x"], model.levels, rng=rng)
    assert excess < 1e-6 < floor
    sets = model.sample(20 * 500, rng=rng, batch=10_000).chunk(20)
    drawn = sum(frechet_of(x, truth) for x in sets) / 20
    assert drawn < 2 * frechet_floor(lambda n, g: data.draw(n, g)["x"], truth, 500)


def test_bound_of_the_exact_network_is_the_best(data):
    model = DDPM(Oracle(data), data.shape, levels=TABLE)
    x = data.draw(4000, torch.Generator().manual_seed(2))["x"]
    nats = model.log_prob(x, rng=torch.Generator().manual_seed(0)).double()
    assert abs(nats.mean() - data.best_bound(TABLE)) < 4 * nats.std() / 4000**0.5


def test_training_brings_the_excess_down(data, seeded):
    model = DDPM(MLP(data.shape, width=32, depth=1), data.shape, levels=TABLE, lr=5e-3)
    made = model.configure_optimizers()

    def excess():
        rng = torch.Generator().manual_seed(1)
        return noise_excess(model.denoiser(), data.denoise, data.test(2048)["x"], model.levels, rng=rng)

    before, floor = excess()
    for step in range(200):
        model.draws = Draws(0, step)
        made["optimizer"].zero_grad()
        model.losses({"x": data.draw(128, torch.Generator().manual_seed(step))["x"]})["noise_mse"].backward()
        made["optimizer"].step()
    assert before > floor
    assert excess()[0] < 0.2 * before


def test_draws_repeat_with_the_generator_and_leave_the_model_in_training(data):
    model = DDPM(MLP(data.shape, width=8, depth=1), data.shape, levels=TABLE)
    one = model.sample(5, rng=torch.Generator().manual_seed(3), steps=7, batch=2)
    two = model.sample(5, rng=torch.Generator().manual_seed(3), steps=7, batch=2)
    assert one.shape == (5, 1, 3, 3)
    assert torch.equal(one, two)
    assert model.training
    assert isinstance(model, Samples)
    assert isinstance(model, Density)


def test_clipped_draws_stay_in_range(data):
    model = DDPM(MLP(data.shape, width=8, depth=1), data.shape, levels=TABLE, clip=True)
    assert model.sample(64, steps=5).abs().max() <= 1


class Spy(nn.Module):
    """Answers 0 and remembers its labels."""

    def __init__(self):
        super().__init__()
        self.anchor, self.labels = nn.Parameter(torch.zeros(1)), []

    def forward(self, x, level, label=None):
        self.labels.append(label)
        return x * 0 + self.anchor


def test_labels_are_hidden_at_the_rate_asked():
    """Within 5 standard deviations of a binomial."""
    model = DDPM(Spy(), (2,), levels=TABLE, classes=10, label_drop=0.3)
    model.losses({"x": torch.zeros(4000, 2), "label": torch.zeros(4000, dtype=torch.long)})
    hidden = (model.net.labels[0] == 10).sum().item()
    assert abs(hidden - 1200) < 5 * (4000 * 0.3 * 0.7) ** 0.5
    assert ((model.net.labels[0] == 10) | (model.net.labels[0] == 0)).all()


def test_guidance_asks_with_and_without_labels():
    model = DDPM(Spy(), (2,), levels=TABLE, classes=3)
    model.sample(4, torch.tensor([0, 1, 2, 0]), steps=2, guidance=1.0, batch=3)
    asked = [label.tolist() for label in model.net.labels]
    assert asked[:2] == [[0, 1, 2], [3, 3, 3]]
    assert asked[-2:] == [[0], [3]]
    model.net.labels.clear()
    model.sample(2, steps=1)
    assert model.net.labels[0].tolist() == [3, 3]


def test_labels_without_classes_are_refused(data):
    model = DDPM(MLP(data.shape, width=8, depth=1), data.shape, levels=TABLE)
    with pytest.raises(ValueError, match="without labels"):
        model.sample(1, torch.zeros(1, dtype=torch.long))


def test_warm_up_rises_linearly_and_stays():
    made = DDPM(Spy(), (2,), levels=TABLE, lr=1.0, warmup=4).configure_optimizers()
    rates = []
    for _ in range(6):
        rates.append(made["optimizer"].param_groups[0]["lr"])
        made["optimizer"].step()
        made["lr_scheduler"]["scheduler"].step()
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
