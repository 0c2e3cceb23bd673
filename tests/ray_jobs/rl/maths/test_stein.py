"""Stein gradients against their double sums, autograd's derivative of the kernel, and a distribution that is known."""

import math
import statistics

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from ray_jobs.rl.maths import stein

cases = given(st.integers(0, 10**6), st.integers(1, 7), st.integers(1, 4))


def drawn(seed: int, *shape: int):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bandwidth(theta):
    """med^2 / log(n + 1), from the distances of all pairs."""
    n = len(theta)
    apart = [float((theta[i] - theta[j]).norm()) for i in range(n) for j in range(i)]
    return statistics.median_low(apart) ** 2 / math.log(n + 1) if apart else 1.0


@settings(derandomize=True, deadline=None, max_examples=30)
@cases
def test_the_kernel_and_its_gradient(seed, n, P):
    theta = drawn(seed, n, P)
    h = bandwidth(theta)
    first, second = theta.clone().requires_grad_(), theta.clone()
    slow = torch.stack([torch.stack([(-(a - b).square().sum() / h).exp() for b in second]) for a in first])
    kernel, repulsion = stein.rbf(theta)
    torch.testing.assert_close(kernel, slow.detach())
    for i in range(n):  # sum over j of the gradient by theta_j of k(theta_j, theta_i)
        by_row = torch.autograd.grad(slow[:, i].sum(), first, retain_graph=True)[0]
        torch.testing.assert_close(repulsion[i], by_row.sum(0))


@settings(derandomize=True, deadline=None, max_examples=30)
@cases
def test_the_direction_is_equation_10(seed, n, P):
    theta, grad, temperature = drawn(seed, n, P), drawn(seed + 1, n, P), 0.7
    h, slow = bandwidth(theta), torch.zeros(n, P, dtype=torch.float64)
    for i in range(n):
        for j in range(n):
            k = (-(theta[j] - theta[i]).square().sum() / h).exp()
            slow[i] += (grad[j] / temperature * k - 2 / h * (theta[j] - theta[i]) * k) / n
    torch.testing.assert_close(stein.direction(theta, grad, temperature), slow)


def test_one_alone_climbs_and_many_in_one_place_climb_together():
    grad = drawn(0, 1, 3)
    torch.testing.assert_close(stein.direction(drawn(1, 1, 3), grad, 0.5), 2 * grad)
    together = drawn(1, 1, 3).expand(4, 3)
    torch.testing.assert_close(stein.direction(together, grad.expand(4, 3), 0.5), 2 * grad.expand(4, 3))


def test_particles_far_apart_climb_by_themselves():
    """With two rows, k = exp(-log 3) = 1/3 whatever the distance: that is what the median does."""
    kernel, _ = stein.rbf(drawn(0, 2, 5) * 1e3)
    torch.testing.assert_close(kernel, torch.tensor([[1, 1 / 3], [1 / 3, 1]], dtype=torch.float64))


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_particles_come_to_have_the_moments_of_a_gaussian(temperature):
    """Of N(mu, temperature diag(s^2)), for J = -(theta - mu)^2 / 2 s^2: 50 particles in 1000 steps, the mean exactly.

    The deviations come within 10%: finite sets of particles with this kernel are a little too narrow.
    """
    mu, s = torch.tensor([1.0, -2.0], dtype=torch.float64), torch.tensor([1.0, 0.5], dtype=torch.float64)
    theta = drawn(0, 50, 2) * 0.1
    for _ in range(1000):
        theta = theta + 0.3 * temperature * stein.direction(theta, (mu - theta) / s.square(), temperature)
    torch.testing.assert_close(theta.mean(0), mu, rtol=0, atol=1e-2)
    torch.testing.assert_close(theta.std(0), s * temperature**0.5, rtol=0.1, atol=0)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"\[n, P\]"):
        stein.direction(torch.zeros(3), torch.zeros(3), 1.0)
    with pytest.raises(ValueError, match="above 0"):
        stein.direction(torch.zeros(3, 1), torch.zeros(3, 1), 0.0)
