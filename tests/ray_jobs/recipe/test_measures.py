"""What recipes measure: nothing above the truth for the truth itself, and exactly as much as a model is made worse by."""

import math

import pytest
import torch

from datamodules import base
from datamodules.labs.density2d import Density2D
from datamodules.labs.lattice import Lattice
from ray_jobs.recipe.measures import bits_above_truth, bound_above_entropy, measuring


class Known:
    """The truth, off by so many nats."""

    device = "cpu"

    def __init__(self, of, off: float) -> None:
        self.of, self.off = of, off

    def log_prob(self, x, *, k: int = 1, rng=None):
        return self.of.log_prob(x) - self.off - float(k == 1)


def test_bits_above_the_truth():
    spins = Lattice(height=4, width=4)
    found = bits_above_truth(Known(spins, 0.5), spins, n=2000)
    assert found["excess_bits_per_dim"] == pytest.approx(1.5 / 16 / math.log(2), abs=1e-9)
    assert found["excess_bits_per_dim_error"] == pytest.approx(0, abs=1e-9)
    error = 5 * spins.log_prob(spins.test(2000)["x"]).std().item() / 2000**0.5 / 16 / math.log(2)
    assert abs(found["exact_bits_per_dim"] - spins.entropy() / 16 / math.log(2)) < error  # one false alarm in a million


def test_nats_above_the_entropy_by_a_bound_of_many_draws():
    points = Density2D(name="wave")
    found = bound_above_entropy(Known(points, 0.25), points, n=3000, k=5)
    assert found["excess_nats"] == pytest.approx(0.25, abs=1e-9)
    assert found["elbo_excess_nats"] == pytest.approx(1.25, abs=1e-9)


def test_a_measurement_draws_other_numbers_than_the_test_set_is_made_of():
    def draw(n: int, rng: torch.Generator) -> dict[str, torch.Tensor]:
        return {"x": torch.randn(n, 2, generator=rng)}

    held, drawn = base.test_set(draw, 1000)["x"], draw(1000, measuring())["x"]
    correlation = torch.corrcoef(torch.cat([held, drawn], 1).T)[:2, 2:]
    assert correlation.abs().max() < 0.16  # five standard errors: one false alarm in 400,000; of one stream it is 1
    assert not torch.equal(held, base.Endless(draw).divided()[1](1000)["x"])
