"""Natural gradients against dense matrices: Fisher's as the sum of scores' outer products, and Kronecker products written out."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from ray_jobs.rl.maths import curvature
from ray_jobs.rl.maths.curvature import flat
from ray_jobs.rl.networks.nets import mlp

seeds = given(st.integers(0, 10**6), st.integers(1, 8))


def drawn(seed: int, *shape: int):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def definite(seed: int, n: int):
    """A random positive definite matrix [n, n] with eigenvalues of at least 0.1."""
    root = drawn(seed, n, n)
    return root @ root.t() / n + 0.1 * torch.eye(n)


@settings(derandomize=True, deadline=None, max_examples=30)
@seeds
def test_conjugate_gradients_solve(seed, n):
    """As many products as dimensions are enough, and the answer is the dense one."""
    M, b, calls = definite(seed, n), drawn(seed + 1, n), []
    x = curvature.conjugate_gradient(lambda v: (calls.append(1), M @ v)[1], b, n, 0.0)
    torch.testing.assert_close(x, torch.linalg.solve(M, b), rtol=1e-5, atol=1e-7)
    assert len(calls) <= n


def test_conjugate_gradients_stop_when_near_enough():
    M, b, calls = definite(0, 50), drawn(1, 50), []
    x = curvature.conjugate_gradient(lambda v: (calls.append(1), M @ v)[1], b, 100, 1e-2)
    assert (b - M @ x).square().sum() <= 1e-2 * b.square().sum()
    assert 0 < len(calls) < 50
    assert not curvature.conjugate_gradient(lambda v: 1 / 0, torch.zeros(3)).any()


def test_each_conjugate_step_is_the_best_of_its_krylov_space():
    """After k products x minimises x M x / 2 - b x over span(b, M b, ..., M^(k-1) b): the theorem behind stopping early."""
    M, b = definite(0, 8), drawn(1, 8)
    for k in (1, 2, 4):
        basis = torch.stack([torch.linalg.matrix_power(M, i) @ b for i in range(k)], 1)
        best = basis @ torch.linalg.solve(basis.t() @ M @ basis, basis.t() @ b)
        torch.testing.assert_close(curvature.conjugate_gradient(lambda v: M @ v, b, k), best, rtol=1e-6, atol=1e-9)


def categorical(net, obs):
    """Dense Fisher [P, P]: the mean over observations of sum_a pi(a) score score', and the mean KL from the policy to itself."""
    parameters = list(net.parameters())
    logp = net(obs).log_softmax(-1)
    F = 0.0
    for row in logp:
        for entry in row:
            score = flat(torch.autograd.grad(entry, parameters, retain_graph=True))
            F = F + entry.exp().detach() * torch.outer(score, score) / len(obs)
    old = logp.detach()
    return F, (old.exp() * (old - logp)).sum(-1).mean()


def normal_logp(mean, log_std, action):
    return -(0.5 * ((action - mean) / log_std.exp()).square() + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)


def gaussian(net, log_std, obs):
    """The same for a Gaussian; its expectation by Gauss-Hermite quadrature, which is exact for the scores' polynomials."""
    parameters = [*net.parameters(), log_std]
    nodes, weights = np.polynomial.hermite_e.hermegauss(4)
    weights = weights / weights.sum()
    mean = net(obs)
    F = 0.0
    for row in mean:
        for i, j in np.ndindex(4, 4):
            action = (row + log_std.exp() * torch.tensor([nodes[i], nodes[j]])).detach()
            score = flat(torch.autograd.grad(normal_logp(row, log_std, action), parameters, retain_graph=True))
            F = F + weights[i] * weights[j] * torch.outer(score, score) / len(obs)
    old, old_std = mean.detach(), log_std.detach()
    ratio = ((old_std - log_std).exp().square() + ((old - mean) / log_std.exp()).square()) / 2
    return F, (ratio + log_std - old_std - 0.5).sum(-1).mean()


def small_net(outputs: int = 3):
    return mlp([3, 4, outputs], activation=nn.Tanh).double()


def dense(product, n: int):
    return torch.stack([product(v) for v in torch.eye(n, dtype=torch.float64)])


def test_the_fisher_product_of_a_categorical_policy(seeded):
    net, obs = small_net(), drawn(0, 5, 3)
    F, kl = categorical(net, obs)
    product = curvature.fisher_product(kl, list(net.parameters()))
    torch.testing.assert_close(dense(product, len(F)), F)
    damped = curvature.fisher_product(kl, list(net.parameters()), 0.3)
    torch.testing.assert_close(dense(damped, len(F)), F + 0.3 * torch.eye(len(F)))


def test_the_fisher_product_of_a_gaussian_policy(seeded):
    """With its deviations, of which the information is 2 each, and a parameter of which it knows nothing."""
    net, log_std, obs = small_net(2), torch.tensor([0.3, -0.8], dtype=torch.float64, requires_grad=True), drawn(0, 4, 3)
    F, kl = gaussian(net, log_std, obs)
    torch.testing.assert_close(F[-2:, -2:], 2 * torch.eye(2, dtype=torch.float64))
    idle = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    got = dense(curvature.fisher_product(kl, [*net.parameters(), log_std, idle]), len(F) + 1)
    torch.testing.assert_close(got[:-1, :-1], F)
    assert not got[-1].any()


def test_the_fisher_product_over_two_learners_is_that_of_all_observations(seeded):
    """Damping is added once, after the mean."""
    net, obs = small_net(), drawn(0, 6, 3)
    F, _ = categorical(net, obs)
    parameters = list(net.parameters())
    halves = [curvature.fisher_product(categorical(net, half)[1], parameters) for half in obs.chunk(2)]
    v = drawn(1, len(F))
    both = curvature.fisher_product(
        categorical(net, obs[:3])[1], parameters, 0.1, mean=lambda mine: (mine + halves[1](v)) / 2
    )
    torch.testing.assert_close(both(v), F @ v + 0.1 * v)


@settings(derandomize=True, deadline=None, max_examples=30)
@seeds
def test_the_natural_step_gains_most_within_the_trust_region(seed, n):
    """It uses the whole region, and no other step of that size, of 100 at random, gains as much."""
    M, g = definite(seed, n), drawn(seed + 1, n)
    step = curvature.natural_step(lambda v: M @ v, g, 0.02, iterations=2 * n)
    torch.testing.assert_close(0.5 * step @ M @ step, torch.tensor(0.02, dtype=torch.float64))
    others = drawn(seed + 2, 100, n)
    others *= (0.04 / torch.einsum("ki,ij,kj->k", others, M, others)).sqrt()[:, None]
    assert (others @ g <= g @ step + 1e-9).all()


def test_no_gradient_makes_no_step():
    assert not curvature.natural_step(lambda v: v, torch.zeros(3), 0.01).any()


def test_the_natural_step_moves_a_policy_by_max_kl(seeded):
    """As the KL itself says, to second order, and less what went to the damping: within 1% for a KL of 1e-8."""
    net, obs, advantage = small_net(), drawn(0, 50, 3), drawn(1, 50)
    parameters = list(net.parameters())
    old = net(obs).log_softmax(-1)
    kl = (old.detach().exp() * (old.detach() - old)).sum(-1).mean()
    g = flat(torch.autograd.grad((old[:, 0] * advantage).mean(), parameters, retain_graph=True))
    step = curvature.natural_step(curvature.fisher_product(kl, parameters, 1e-4), g, 1e-8, iterations=60)
    nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(parameters) + step, parameters)
    moved = (old.exp() * (old - net(obs).log_softmax(-1))).sum(-1).mean()
    damped = 0.5e-4 * step.square().sum()
    assert damped < 0.5e-8
    assert moved.item() == pytest.approx(1e-8 - damped.item(), rel=0.01)


def parabola(share):
    """Improvement share - share^2, and the KL share^2 / 2."""
    return torch.tensor(share - share**2), torch.tensor(share**2 / 2)


def test_the_line_search_takes_the_largest_share_that_will_do():
    assert curvature.line_search(parabola, 1.0) == 0.5  # all of it improves nothing
    assert curvature.line_search(parabola, 0.01) == 0.125  # 0.5 * 0.125^2 is the first within 0.01
    assert curvature.line_search(parabola, 1.0, expected=1.0, accept=0.8) == 0.125  # 1 - share >= 0.8
    assert curvature.line_search(parabola, 1.0, shrink=0.8) == 0.8
    assert curvature.line_search(parabola, 0.01, attempts=3) == 0.0
    assert curvature.line_search(lambda s: (torch.tensor(-s), torch.tensor(0.0)), 1.0) == 0.0
    assert curvature.line_search(lambda s: (torch.tensor(math.nan), torch.tensor(0.0)), 1.0) == 0.0
    assert curvature.line_search(lambda s: (torch.tensor(s), torch.tensor(math.nan)), 1.0) == 0.0
    with pytest.raises(ValueError, match="between 0 and 1"):
        curvature.line_search(parabola, 1.0, shrink=1.0)


def test_the_line_search_judges_by_all_learners():
    """Another learner found the whole step bad and far, and half of it harmless."""
    others = iter([torch.tensor([-3.0, 1.0]), torch.tensor([0.0, 0.0])])
    share = curvature.line_search(
        lambda s: (torch.tensor(s), torch.tensor(s / 10)), 0.2, mean=lambda mine: (mine + next(others)) / 2
    )
    assert share == 0.5


def test_kronecker_factors_are_the_exact_fisher_of_independent_inputs_and_slopes():
    """A linear layer whose inputs and output gradients run over all pairs: the block is the mean of vec(g a') vec(g a')'."""
    a, g = drawn(0, 5, 3), drawn(1, 4, 2)
    inputs, slopes = a.repeat_interleave(4, 0), g.repeat(5, 1)
    A, G = curvature.kronecker_factors(inputs, slopes)
    rows = torch.cat([inputs, torch.ones(20, 1)], 1)
    vec = (slopes[:, :, None] * rows[:, None, :]).flatten(1)  # as autograd has it: weights [out, in+1], row by row
    torch.testing.assert_close(torch.kron(G, A), vec.t() @ vec / 20)
    A, G = curvature.kronecker_factors(inputs, slopes, bias=False)
    vec = (slopes[:, :, None] * inputs[:, None, :]).flatten(1)
    torch.testing.assert_close(torch.kron(G, A), vec.t() @ vec / 20)


def test_kronecker_factors_are_the_fisher_of_a_linear_gaussian_policy():
    """Its score by the mean, z / sigma, knows nothing of the input: by quadrature over z, the block is the dense Fisher matrix."""
    net, obs = nn.Linear(3, 2).double(), drawn(0, 5, 3)
    log_std = torch.tensor([0.3, -0.8], dtype=torch.float64, requires_grad=True)
    F = gaussian(net, log_std, obs)[0][:-2, :-2]
    nodes = torch.tensor(np.polynomial.hermite_e.hermegauss(2)[0])  # +-1 with equal weights: exact for squares
    z = torch.cartesian_prod(nodes, nodes)
    A, G = curvature.kronecker_factors(obs.repeat_interleave(4, 0), (z / log_std.exp()).detach().repeat(5, 1))
    order = [0, 1, 2, 6, 3, 4, 5, 7]  # weights then biases -> each row of weights with its bias
    torch.testing.assert_close(torch.kron(G, A), F[order][:, order])


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 5), st.sampled_from([1e-4, 0.1, 3.0]))
def test_preconditioning_is_the_dense_solve(seed, out, n, damping):
    """With the Kronecker product of the damped factors, which adds the damping itself and two terms more."""
    A, G, grad = definite(seed, n), 5 * definite(seed + 1, out), drawn(seed + 2, out, n)
    pi, root = ((A.trace() / n) / (G.trace() / out)).sqrt(), math.sqrt(damping)
    block = (
        torch.kron(G, A)
        + root * pi * torch.kron(G, torch.eye(n))
        + root / pi * torch.kron(torch.eye(out), A)
        + damping * torch.eye(n * out)
    )
    got = curvature.precondition(grad, A, G, damping)
    torch.testing.assert_close(got, torch.linalg.solve(block, grad.flatten()).view(out, n))


def test_preconditioning_where_nothing_was_seen_yet():
    """Factors of 0 leave the damping: pi is taken as 1."""
    A, G, grad = torch.zeros(3, 3), torch.zeros(2, 2), torch.ones(2, 3)
    torch.testing.assert_close(curvature.precondition(grad, A, G, 0.25), 4 * grad)
    with pytest.raises(ValueError, match="above 0"):
        curvature.precondition(grad, A, G, 0.0)


def test_the_step_is_scaled_to_the_trust_region_or_to_its_most():
    square = torch.tensor(8.0)
    assert curvature.trust_scale(square, 1e9, 0.01).item() == pytest.approx(0.05)
    assert curvature.trust_scale(square, 0.02, 0.01).item() == pytest.approx(0.02)
    assert curvature.trust_scale(torch.tensor(0.0), 0.02, 0.01) == 0


def test_running_factors_are_plain_means_until_they_forget():
    new = drawn(0, 6)
    running = [torch.zeros((), dtype=torch.float64)]
    for k, x in enumerate(new[:4]):
        curvature.blended(running, [x], k + 1, 0.75)
    torch.testing.assert_close(running[0], new[:4].mean())
    for k, x in enumerate(new[4:]):
        curvature.blended(running, [x], k + 5, 0.75)
    torch.testing.assert_close(running[0], 0.75 * (0.75 * new[:4].mean() + 0.25 * new[4]) + 0.25 * new[5])
