"""The densities of the benchmark are those of the laboratories, and their draws fall where they say."""

import pytest
import torch

from benchmarks.peers.density_work import DENSITIES
from datamodules.labs.density2d import named


@pytest.mark.parametrize("name", ["ring", "wave"])
def test_those_of_the_plane(name):
    x = named(name).draw(500, torch.Generator().manual_seed(0))
    torch.testing.assert_close(DENSITIES[name]().log_prob(x), named(name).log_prob(x))


def test_the_pinwheel_is_turned_beside_normal_numbers():
    ours, z = DENSITIES["pinwheel8"](), torch.randn(200, 8, generator=torch.Generator().manual_seed(0)).double()
    truth = named("pinwheel").log_prob(z[:, :2]) + torch.distributions.Normal(0, 1).log_prob(z[:, 2:]).sum(1)
    torch.testing.assert_close(ours.log_prob(z @ ours.turn.T), truth)
    assert (ours.turn.abs() > 0.01).float().mean() > 0.9


@pytest.mark.parametrize("name", DENSITIES)
def test_draws_fall_where_the_density_says(name):
    """The mean code length is the entropy, within 5 standard errors: one false alarm in a million."""
    truth = DENSITIES[name]()
    code = -truth.log_prob(truth.draw(50_000, torch.Generator().manual_seed(0)))
    entropy = named(name.rstrip("8")).entropy() + (truth.size - 2) * torch.distributions.Normal(0, 1).entropy().item()
    assert abs(code.mean() - entropy) < 5 * code.std() / len(code) ** 0.5
