"""Policies against torch.distributions, against their definitions integrated, and their draws against their densities."""

import math

import gymnasium as gym
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy import integrate, stats
from torch import distributions as D

from ray_jobs.rl.networks.policies import (
    Categorical,
    Gaussian,
    MultiCategorical,
    SquashedGaussian,
    log_softmax,
    noisy,
    policy_for,
)

BOX = gym.spaces.Box(np.float32([-2.0, 1.0]), np.float32([0.5, 9.0]))
SIZES = (2, 4, 3)
seeds = settings(derandomize=True, deadline=None, max_examples=20)


def drawn(policy, seed, rows=7, spread=1.0):
    """Some outputs [rows, outputs] in float64, an action for each, and the generator."""
    rng = torch.Generator().manual_seed(seed)
    out = torch.randn(rows, policy.outputs, generator=rng, dtype=torch.float64) * spread
    return out, policy.double().sample(out, rng), rng


def truth(policy, out):
    """The same distributions by torch, event dimensions flattened."""
    if isinstance(policy, Categorical):
        return D.Categorical(logits=out)
    if isinstance(policy, Gaussian):
        return D.Independent(D.Normal(out, policy.log_std.exp()), 1)
    mean, log_std = out.chunk(2, -1)
    low, high = (torch.as_tensor(x, dtype=torch.float64) for x in (BOX.low, BOX.high))
    maps = [D.transforms.TanhTransform(), D.transforms.AffineTransform((low + high) / 2, (high - low) / 2)]
    return D.Independent(D.TransformedDistribution(D.Normal(mean, log_std.clamp(-20, 2).exp()), maps), 1)


@seeds
@given(st.integers(0, 10**6), st.sampled_from(["categorical", "gaussian", "squashed"]))
def test_densities_are_torchs(seed, kind):
    policy = {"categorical": Categorical(5), "gaussian": Gaussian((3,), -0.4), "squashed": SquashedGaussian(BOX)}[kind]
    out, action, _ = drawn(policy, seed)
    torch.testing.assert_close(policy.log_prob(out, action), truth(policy, out).log_prob(action))


@seeds
@given(st.integers(0, 10**6), st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_log_softmax_is_torchs(seed, shape):
    x = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 9).requires_grad_()
    torch.testing.assert_close(log_softmax(x), x.log_softmax(-1), rtol=1e-6, atol=1e-6)
    ours, torchs = (torch.autograd.grad(y.square().sum(), x)[0] for y in (log_softmax(x), x.log_softmax(-1)))
    torch.testing.assert_close(ours, torchs)


@seeds
@given(st.integers(0, 10**6))
def test_entropy_and_kl_are_torchs(seed):
    for policy in (Categorical(5), Gaussian((2, 3), -0.4), SquashedGaussian(BOX)):
        out, _, rng = drawn(policy, seed)
        other = out + torch.randn(out.shape, generator=rng, dtype=torch.float64)
        one, two = truth(policy, out), truth(policy, other)
        if isinstance(policy, SquashedGaussian):  # torch has neither: the bijection leaves the KL of the normals
            one, two = (D.Independent(t.base_dist.base_dist, 1) for t in (one, two))
        else:
            torch.testing.assert_close(policy.entropy(out), one.entropy())
        torch.testing.assert_close(policy.kl(out, other), D.kl_divergence(one, two))
        torch.testing.assert_close(policy.kl(out, out), torch.zeros(7, dtype=torch.float64))


@seeds
@given(st.integers(0, 10**6))
def test_several_choices_are_one_over_all_combinations(seed):
    """Entropy, KL and log probability against the joint table of every combination."""
    policy = MultiCategorical(SIZES)
    out, action, rng = drawn(policy, seed)
    other = torch.randn(out.shape, generator=rng, dtype=torch.float64)

    def joint(x):
        a, b, c = (logits.softmax(-1) for logits in x.split(SIZES, -1))
        return torch.einsum("ni,nj,nk->nijk", a, b, c)

    p, q = joint(out), joint(other)
    torch.testing.assert_close(policy.log_prob(out, action), p[torch.arange(7), *action.T].log())
    torch.testing.assert_close(policy.entropy(out), -(p * p.log()).sum((1, 2, 3)))
    torch.testing.assert_close(policy.kl(out, other), (p * (p / q).log()).sum((1, 2, 3)))
    best = torch.stack(torch.unravel_index(p.flatten(1).argmax(-1), SIZES), -1)
    assert torch.equal(policy.mode(out), best)


def test_several_choices_are_drawn_as_often_as_they_should_be():
    """Chi-square of 20,000 draws over 24 combinations: above 58.0 (23 degrees of freedom) with probability 8e-5."""
    policy, rng = MultiCategorical(SIZES), torch.Generator().manual_seed(0)
    out = torch.randn(policy.outputs, generator=rng).expand(20_000, -1)
    action = policy.sample(out, rng)
    assert action.dtype == torch.int64
    a, b, c = (x.softmax(-1) for x in out[0].split(SIZES))
    expected = 20_000 * torch.einsum("i,j,k->ijk", a, b, c).flatten()
    met = torch.bincount(action @ torch.tensor([12, 3, 1]), minlength=24)
    assert ((met - expected).square() / expected).sum() < 58.0


def test_gaussian_draws_have_the_right_moments():
    """20,000 draws in 6 dimensions: a mean 4.5 deviations off in any has probability 4e-5; so has a variance."""
    policy, n = Gaussian((2, 3), -0.7), 20_000
    rng = torch.Generator().manual_seed(0)
    out = torch.randn(6, generator=rng)
    z = (policy.sample(out.expand(n, -1), rng).detach().flatten(1) - out) / math.exp(-0.7)
    assert (z.mean(0).abs() < 4.5 / n**0.5).all()
    assert ((z.var(0) - 1).abs() < 4.5 * (2 / n) ** 0.5).all()
    assert torch.equal(policy.mode(out), out.reshape(2, 3))


def test_squashed_draws_follow_their_distribution():
    """Kolmogorov and Smirnov's test of 5,000 draws in each of two dimensions: p below 1e-4 with probability 2e-4."""
    policy, rng = SquashedGaussian(BOX), torch.Generator().manual_seed(0)
    out = torch.tensor([0.4, -1.0, -0.3, 0.5])
    action = policy.sample(out.expand(5000, -1), rng).double().numpy()
    assert BOX.contains(action[0].astype(np.float32))
    for i in range(2):
        unit = (2 * action[:, i] - BOX.low[i] - BOX.high[i]) / (BOX.high[i] - BOX.low[i])
        assert stats.kstest(np.arctanh(unit), "norm", (float(out[i]), math.exp(out[i + 2]))).pvalue > 1e-4


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, -1.0), (0.7, -0.5), (-1.5, -2.0)])
def test_squashed_density_integrates_to_one(mean, log_std):
    policy = SquashedGaussian(gym.spaces.Box(-1.0, 4.0, (1,))).double()
    grid = torch.linspace(-1, 4, 200_001, dtype=torch.float64)[1:-1, None]
    p = policy.log_prob(torch.tensor([mean, log_std], dtype=torch.float64).expand(len(grid), 2), grid).exp()
    assert torch.trapezoid(p, grid.squeeze(-1)).item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, -3.0), (0.7, 0.0), (-3.0, 1.0), (1.3, 2.0), (20.0, 2.0)])
def test_squashed_entropy_is_the_integral(mean, log_std):
    """-E[log density], with the normal integrated adaptively and torch's own log-determinant."""
    box = gym.spaces.Box(-1.0, 4.0, (1,))
    policy, out = SquashedGaussian(box).double(), torch.tensor([mean, log_std], dtype=torch.float64)
    std = math.exp(log_std)

    def integrand(x):
        u = torch.tensor(x, dtype=torch.float64)
        slope = D.transforms.TanhTransform().log_abs_det_jacobian(u, u.tanh()).item() + math.log(2.5)
        density = stats.norm.logpdf(x, mean, std)
        return -math.exp(density) * (density - slope)

    exact = integrate.quad(integrand, mean - 9 * std, mean + 9 * std, limit=500, points=[0.0])[0]
    assert policy.entropy(out).item() == pytest.approx(exact, abs=5e-4)


def test_reparameterised_draws_are_the_draws_and_know_their_density(seeded):
    policy, out = SquashedGaussian(BOX).double(), torch.randn(50, 4, dtype=torch.float64)
    action, logp = policy.rsample(out, torch.Generator().manual_seed(3))
    torch.testing.assert_close(action, policy.sample(out, torch.Generator().manual_seed(3)))
    torch.testing.assert_close(logp, policy.log_prob(out, action))


def test_reparameterised_gradients_are_finite_differences(seeded):
    """Noise frozen by the generator's seed, in float64."""
    policy = SquashedGaussian(BOX).double()
    out = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: policy.rsample(x, torch.Generator().manual_seed(3)), (out,))


def test_squashed_densities_stay_finite_at_the_bounds():
    """The log slope falls as 2 log 2 - 2|x| where 1 - tanh^2 has long been 0; the bounds themselves have a density."""
    policy = SquashedGaussian(gym.spaces.Box(-1.0, 1.0, (2,)))
    x = torch.tensor([[-80.0, 80.0]])
    torch.testing.assert_close(policy.squash.log_slope(x), 2 * math.log(2) - 2 * x.abs())
    out = torch.zeros(1, 4, requires_grad=True)
    logp = policy.log_prob(out, torch.tensor([[-1.0, 1.0]]))
    assert logp.isfinite()
    assert torch.autograd.grad(logp, out)[0].isfinite().all()
    _, logp = policy.rsample(torch.tensor([[1e3, -1e3, 50.0, -50.0]]), torch.Generator().manual_seed(0))
    assert logp.isfinite()


def test_squashed_mode_is_within():
    policy = SquashedGaussian(BOX)
    out = torch.tensor([[0.0, 0.0, 1.0, 1.0], [50.0, -50.0, 1.0, 1.0]])
    torch.testing.assert_close(policy.mode(out), torch.tensor([[-0.75, 5.0], [0.5, 1.0]]))


def test_a_gaussians_kl_knows_the_deviations_it_had():
    old, new = Gaussian((3,), -0.5), Gaussian((3,), 0.2)
    a, b = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    exact = D.kl_divergence(*(D.Independent(D.Normal(m, p.log_std.exp()), 1) for m, p in ((a, old), (b, new))))
    torch.testing.assert_close(new.kl(a, b, old), exact)
    assert (new.kl(a, b) - exact).abs().min() > 0.1


def test_kl_at_the_old_policy_is_flat_and_curved_as_fishers_information():
    """Per dimension 1 / deviation^2 for the mean and 2 for the log deviation."""
    policy, mean = Gaussian((2,), -0.5).double(), torch.zeros(2, dtype=torch.float64, requires_grad=True)
    at = [mean, policy.log_std]
    slopes = torch.autograd.grad(policy.kl(mean.detach(), mean), at, create_graph=True)
    assert all((g == 0).all() for g in slopes)
    curves = [torch.autograd.grad(g.sum(), x, retain_graph=True)[0] for g, x in zip(slopes, at, strict=True)]
    torch.testing.assert_close(curves[0], torch.full((2,), math.e, dtype=torch.float64))
    torch.testing.assert_close(curves[1], torch.full((2,), 2.0, dtype=torch.float64))


@pytest.mark.parametrize("policy", [Categorical(5), MultiCategorical(SIZES), Gaussian((2, 3)), Gaussian(())])
def test_nothing_is_likelier_than_the_mode(policy):
    out, _, rng = drawn(policy, 0, rows=1, spread=2.0)
    others = policy.sample(out.expand(500, -1), rng)
    assert (policy.log_prob(out, policy.mode(out)) >= policy.log_prob(out.expand(500, -1), others)).all()


def policies():
    spaces = [gym.spaces.Discrete(3), gym.spaces.MultiDiscrete([2, 3]), gym.spaces.Box(-1.0, 1.0, (2, 2)), BOX]
    return [pytest.param(policy_for(s), s, id=str(s)) for s in spaces] + [(SquashedGaussian(s), s) for s in spaces[2:]]


@pytest.mark.parametrize(("policy", "space"), policies())
def test_every_policy_keeps_to_the_shapes(policy, space, seeded):
    """Two leading dimensions [T, B] go through everything."""
    out, rng = torch.randn(4, 5, policy.outputs), torch.Generator()
    for action in (policy.sample(out, rng), policy.mode(out)):
        assert action.shape == (4, 5, *space.shape)
        assert policy.log_prob(out, action).shape == (4, 5)
    assert policy.entropy(out).shape == policy.kl(out, out).shape == (4, 5)


def test_spaces_find_their_policies():
    for space, kind in ((gym.spaces.Discrete(3), Categorical), (gym.spaces.MultiDiscrete([2, 3]), MultiCategorical)):
        policy = policy_for(space)
        assert isinstance(policy, kind)
        assert space.contains(policy.mode(torch.zeros(policy.outputs)).numpy())
    assert isinstance(policy_for(BOX), Gaussian)


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.MultiBinary(3),
        gym.spaces.Discrete(3, start=1),
        gym.spaces.MultiDiscrete([2, 3], start=[0, 1]),
        gym.spaces.MultiDiscrete([[2, 3], [4, 5]]),
    ],
)
def test_other_spaces_are_refused(space):
    with pytest.raises(ValueError, match=r"not supported: it must be Discrete \(starting at 0\), MultiDiscrete"):
        policy_for(space)


@pytest.mark.parametrize(
    "space",
    [gym.spaces.Discrete(3), gym.spaces.Box(0.0, np.inf, (2,)), gym.spaces.Box(np.float32([0, 1]), np.float32([2, 1]))],
)
def test_squashing_needs_bounds(space):
    with pytest.raises(ValueError, match="must be Box with finite bounds"):
        SquashedGaussian(space)


def test_exploration_noise_is_scaled_to_the_box_and_clipped():
    """40,000 draws of a deviation of 0.2 half-widths, far from the bounds: 4.5 deviations off with probability 3e-5 in all."""
    low, high = torch.tensor([-2.0, 0.0]), torch.tensor([2.0, 100.0])
    middle, n = torch.tensor([0.0, 50.0]).expand(40_000, -1), 40_000
    z = (noisy(middle, 0.2, low, high, torch.Generator().manual_seed(0)) - middle) / torch.tensor([0.4, 10.0])
    assert (z.mean(0).abs() < 4.5 / n**0.5).all()
    assert ((z.var(0) - 1).abs() < 4.5 * (2 / n) ** 0.5).all()
    edge = noisy(high.expand(100, -1), 5.0, low, high, torch.Generator().manual_seed(0))
    assert ((edge >= low) & (edge <= high)).all()
    assert (edge == high).any()
    assert (edge == low).any()
