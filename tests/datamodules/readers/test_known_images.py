"""Images and waves of known probability: every possible one listed, or their own draws counted."""

import math

import pytest
import torch

from datamodules.labs import textures, waves
from datamodules.labs.ising import Ising
from datamodules.labs.lattice import Lattice, Prototypes, images


def every(shape: tuple[int, ...], levels: int) -> torch.Tensor:
    size = math.prod(shape)
    places = torch.arange(levels**size)[:, None] // levels ** torch.arange(size) % levels
    return (places.double() * (2 / (levels - 1)) - 1).view(-1, *shape)


def test_spins_are_those_of_the_listed_images():
    listed, rows = Ising(side=3, coupling=0.6, field=0.1), Lattice(height=3, width=3, coupling=0.6, field=0.1)
    torch.testing.assert_close(rows.log_prob(listed.all), listed.logs)
    assert rows.entropy() == pytest.approx(listed.entropy(), abs=1e-12)


@pytest.mark.parametrize(("height", "width", "levels"), [(2, 3, 3), (4, 2, 3), (1, 5, 4), (3, 1, 2)])
def test_greys_sum_to_one_and_weigh_as_they_are_defined(height, width, levels):
    lattice = Lattice(height=height, width=width, levels=levels, coupling=0.7, field=-0.3)
    x = every(lattice.shape, levels)
    bonds = (x[..., 1:] * x[..., :-1]).sum((1, 2, 3)) + (x[..., 1:, :] * x[..., :-1, :]).sum((1, 2, 3))
    truth = (0.7 * bonds - 0.3 * x.sum((1, 2, 3))).log_softmax(0)
    torch.testing.assert_close(lattice.log_prob(x), truth)
    assert lattice.entropy() == pytest.approx(-(truth.exp() * truth).sum().item(), abs=1e-10)


def test_draws_come_as_often_as_they_should():
    """Shares of all images by chi-square: one false alarm in 10,000."""
    from scipy.stats import chi2

    lattice, n = Lattice(height=2, width=2, levels=3, coupling=0.5), 50_000
    x = every(lattice.shape, 3)
    drawn = lattice.draw(n, torch.Generator().manual_seed(0))["x"].double()
    place = (((drawn + 1).flatten(1)).long() * 3 ** torch.arange(4)).sum(1)
    seen, expected = torch.bincount(place, minlength=81).double(), lattice.log_prob(x).exp() * n
    assert chi2.sf(((seen - expected).square() / expected).sum().item(), 80) > 1e-4


def test_too_many_rows_are_refused():
    with pytest.raises(ValueError, match="4096; 2 to 1024 can be listed"):
        Lattice(width=6, levels=4)


def test_prototypes_sum_to_one_and_are_drawn_as_they_weigh():
    small = Prototypes(pictures=3, side=3, flip=0.2)
    x = every(small.shape, 2)
    logs = small.log_prob(x)
    assert logs.exp().sum().item() == pytest.approx(1, abs=1e-12)
    entropy = -(logs.exp() * logs).sum()
    got = small.log_prob(small.draw(20_000, torch.Generator().manual_seed(0))["x"])
    assert abs(got.mean() + entropy) < 5 * got.std() / 20_000**0.5  # one false alarm in a million
    assert len(torch.unique(Prototypes().pictures, dim=0)) == 8


@pytest.mark.parametrize("name", ["spins", "greys", "prototypes"])
def test_their_names(name):
    known = images(name, batch=5)
    assert next(iter(known.train_dataloader()))["x"].shape == (5, *known.shape)
    assert known.log_prob(known.test(7)["x"]).shape == (7,)


def test_a_name_that_is_not_there():
    with pytest.raises(ValueError, match="There are no images 'spin'; allowed: spins, greys, prototypes"):
        images("spin")


@pytest.mark.parametrize("name", ["textures", "peaked"])
def test_continuous_images_have_the_density_of_their_definition(name):
    """By automatic differentiation of what bends them, or by the mixture's own sum."""
    data = textures.images(name, 3)
    x = data.test(16)["x"]
    if name == "textures":
        truth = data.mixture.log_prob(x.double().flatten(1))
    else:
        g = torch.asinh(2 * x.double()) / 2
        slope = torch.autograd.functional.jacobian(lambda g: (torch.sinh(2 * g) / 2).sum(), g)
        truth = data.of.log_prob(g) - slope.log().flatten(1).sum(1)
    torch.testing.assert_close(data.log_prob(x), truth)


@pytest.mark.parametrize("name", ["textures", "peaked"])
def test_their_draws_have_the_moments_of_their_density(name):
    """E[exp(log q - log p)] = 1 for a wider normal q, within 5 standard errors: wrong draws or a wrong density both break it."""
    data = textures.images(name, 2)
    x = data.draw(50_000, torch.Generator().manual_seed(1))["x"]
    q = torch.distributions.Normal(0.1, 0.25)
    ratio = (q.log_prob(x).double().flatten(1).sum(1) - data.log_prob(x)).exp()
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / len(ratio) ** 0.5


@pytest.mark.parametrize(
    "source",
    [
        lambda: waves.Switching(length=4, levels=5, stay=0.7, noise=0.3),
        lambda: waves.Echoes(length=5, levels=4, lag=2, echo=0.4),
    ],
)
def test_waves_sum_to_one_and_are_drawn_as_they_weigh(source):
    """Every wave listed; shares of drawn ones by chi-square: one false alarm in 10,000."""
    from scipy.stats import chi2

    data, n = source(), 100_000
    length, levels = data.shape[0], data.levels
    digits = levels ** torch.arange(length)
    p = data.log_prob(data.value[torch.arange(levels**length)[:, None] // digits % levels]).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-9)
    drawn = data.draw(n, torch.Generator().manual_seed(0))["x"].double()
    place = (torch.bucketize(drawn, (data.value[1:] + data.value[:-1]) / 2) * digits).sum(1)
    seen, expected = torch.bincount(place, minlength=len(p)).double(), p * n
    full = expected >= 5
    seen, expected = (torch.cat([a[full], a[~full].sum()[None]]) for a in (seen, expected))
    assert chi2.sf(((seen - expected).square() / expected).sum().item(), len(seen) - 1) > 1e-4
