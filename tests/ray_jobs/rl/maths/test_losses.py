"""Losses and networks against their formulas, values and derivatives."""

import math

import gymnasium as gym
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from torch import nn

from ray_jobs.rl.batches import standardise
from ray_jobs.rl.contract import Alone
from ray_jobs.rl.maths import policy_losses, value_losses
from ray_jobs.rl.networks.nets import TanhMLP, mlp
from ray_jobs.rl.networks.policies import Categorical, Gaussian, policy_for
from ray_jobs.rl.optim.step import adam, flatten, gradient_step


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.05, 0.5))
def test_the_clipped_surrogate_is_equation_7(seed, clip):
    """Value and derivative, with ratios on either side of the clip and advantages of either sign."""
    g = torch.Generator().manual_seed(seed)
    logp, old, advantage = torch.randn(3, 50, generator=g, dtype=torch.float64) * 0.5
    one, two = logp.clone().requires_grad_(), logp.clone().requires_grad_()
    ratio = (two - old).exp()
    formula = -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    ours = policy_losses.clipped(one, old, advantage, clip)
    torch.testing.assert_close(ours, formula)
    torch.testing.assert_close(*(torch.autograd.grad(x.sum(), y)[0] for x, y in ((ours, one), (formula, two))))


def test_the_policy_gradient_moves_towards_what_was_better():
    logits = torch.zeros(2, requires_grad=True)
    logp = logits.log_softmax(-1)
    policy_losses.policy_gradient(logp, torch.tensor([1.0, -1.0])).sum().backward()
    assert logits.grad.tolist() == [-1.0, 1.0]


def test_the_kl_estimate_has_the_right_mean():
    """Sum over an exact distribution, not over samples: E_old[estimate] = KL(old || new)."""
    old, new = torch.randn(2, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64).log_softmax(-1)
    exact = (old.exp() * (old - new)).sum()
    torch.testing.assert_close((old.exp() * policy_losses.kl_estimate(new - old)).sum(), exact)
    assert (policy_losses.kl_estimate(new - old) >= 0).all()


def test_value_clipping_takes_the_worse():
    value, target, old = torch.tensor([0.0, 2.0, 0.5]), torch.tensor([1.0, 1.0, 1.0]), torch.tensor([0.0, 0.0, 0.6])
    got = value_losses.clipped(value, target, old, 0.2)
    torch.testing.assert_close(got, torch.tensor([1.0, 1.0, 0.25]))
    near = value_losses.clipped(torch.tensor([5.0]), torch.tensor([5.0]), torch.tensor([0.0]), 0.2)
    torch.testing.assert_close(near, torch.tensor([4.8**2]))


def test_q_targets():
    """Plain takes the target's best; double takes the target's value of what the other likes best."""
    q, chooser = torch.tensor([[1.0, 5.0], [2.0, 0.0]]), torch.tensor([[3.0, 0.0], [0.0, 3.0]])
    r, discount = torch.tensor([10.0, 20.0]), torch.tensor([0.5, 0.0])
    assert value_losses.q_target(r, discount, q).tolist() == [12.5, 20.0]
    assert value_losses.q_target(r, discount, q, chooser).tolist() == [10.5, 20.0]


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4)])
def test_the_written_out_network_is_the_plain_one(shape, seeded):
    fast, plain = TanhMLP([6, 16, 20, 3], last=0.5), mlp([6, 16, 20, 3], activation=nn.Tanh)
    for ours, theirs in zip(fast.parameters(), plain.parameters(), strict=True):
        theirs.data.copy_(ours)
    x = torch.randn(*shape, 6, requires_grad=True)
    weight = torch.randn(*shape, 3)
    torch.testing.assert_close(fast(x), plain(x), rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(fast(x), fast(x).detach())
    for a, b in zip(
        *((torch.autograd.grad((n(x) * weight).sum(), [x, *n.parameters()])) for n in (fast, plain)), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_the_written_out_network_refuses_to_be_differentiated_twice(seeded):
    net = TanhMLP([2, 4, 1])
    with pytest.raises(RuntimeError, match=r"nets\.plain_tanh"):
        torch.autograd.grad(net(torch.randn(3, 2)).sum(), list(net.parameters()), create_graph=True)


def test_categorical_is_softmax():
    """Chi-square of 20,000 draws over 4 actions: above 21.1 with probability 1e-4."""
    policy, rng = Categorical(4), torch.Generator().manual_seed(0)
    out = torch.tensor([0.3, -1.0, 1.2, 0.0])
    drawn = policy.sample(out.expand(20_000, 4), rng)
    expected = out.softmax(-1) * 20_000
    assert ((torch.bincount(drawn, minlength=4) - expected).square() / expected).sum() < 21.1
    truth = torch.distributions.Categorical(logits=out)
    torch.testing.assert_close(policy.log_prob(out.expand(20_000, 4), drawn), truth.log_prob(drawn))
    torch.testing.assert_close(policy.entropy(out), truth.entropy())
    assert policy.mode(out) == 2


def test_gaussian_is_normal():
    policy, rng = Gaussian((2, 3), log_std=-0.7), torch.Generator().manual_seed(0)
    out = torch.randn(9, 6, generator=rng)
    action = policy.sample(out, rng)
    truth = torch.distributions.Independent(torch.distributions.Normal(out, math.exp(-0.7)), 1)
    assert action.shape == (9, 2, 3)
    torch.testing.assert_close(policy.log_prob(out, action), truth.log_prob(action.flatten(1)))
    torch.testing.assert_close(policy.entropy(out), truth.entropy())


def test_spaces_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="must be Discrete"):
        policy_for(gym.spaces.MultiBinary(3))
    with pytest.raises(ValueError, match="starting at 0"):
        policy_for(gym.spaces.Discrete(3, start=1))


def test_one_vector_steps_like_its_parts(seeded):
    """Adam and clipping on the rebound vector are torch's on the separate parameters."""
    one, two = (nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)) for _ in range(2))
    two.load_state_dict(one.state_dict())
    ours, theirs = adam(one, 1e-2), torch.optim.Adam(two.parameters(), 1e-2)
    x = torch.randn(8, 3)
    for _ in range(5):
        gradient_step(one(x).square().mean() * 10, ours, Alone(torch.Generator()), 0.1)
        theirs.zero_grad()
        (two(x).square().mean() * 10).backward()
        nn.utils.clip_grad_norm_(two.parameters(), 0.1)
        theirs.step()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_rebound_parameters_are_views(seeded):
    net = nn.Linear(3, 2)
    flat = flatten(list(net.parameters()))
    flat.data.fill_(7.0)
    assert (net.weight == 7).all()
    assert (net.bias == 7).all()


def test_standardised_over_learners_as_over_all(seeded):
    """Two learners' halves come out as the whole does, if the mean over learners is exact."""
    x = torch.randn(2, 50) * 3 + 1
    alone = standardise(x, Alone(torch.Generator()))
    assert alone.mean().abs() < 1e-6
    means = iter([x.mean(), (x - x.mean()).square().mean()])
    half = Alone(torch.Generator(), size=2)
    half.mean = lambda mine: next(means)
    torch.testing.assert_close(standardise(x[0], half), alone[0])


def drawn(seed: int, *shape: int):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_kl_penalty_is_equation_8():
    """Value and derivative, by the policy's parameters through both the ratio and the KL."""
    start, old = drawn(0, 2, 7, 4)
    action, advantage = torch.arange(7) % 4, drawn(1, 7)
    one, two = start.clone().requires_grad_(), start.clone().requires_grad_()

    def parts(logits):
        logp, before = logits.log_softmax(-1), old.log_softmax(-1)
        at = torch.arange(7), action
        return logp[at], before[at], (before.exp() * (before - logp)).sum(-1)

    logp, before, kl = parts(one)
    ours = policy_losses.kl_penalty(logp, before, advantage, kl, 0.3)
    logp, before, kl = parts(two)
    formula = -(logp.exp() / before.exp() * advantage - 0.3 * kl)
    torch.testing.assert_close(ours, formula)
    torch.testing.assert_close(*(torch.autograd.grad(x.sum(), y)[0] for x, y in ((ours, one), (formula, two))))


def test_the_kl_penalty_adapts_by_two_beyond_one_and_a_half():
    beta, target = torch.tensor(1.0), 0.03
    kls, expected = (0.0451, 0.0449, 0.0201, 0.0199, 0.0), (2.0, 1.0, 1.0, 0.5, 0.5)
    assert [policy_losses.adapted(beta, torch.tensor(kl), target).item() for kl in kls] == list(expected)


def test_the_soft_policys_best_is_boltzmann():
    """Its mean over a distribution is alpha KL(pi || exp(Q / alpha) / Z) - alpha log Z: least, and flat, at the Boltzmann policy."""
    q, alpha = drawn(0, 5), torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    logits = (q / alpha.detach()).requires_grad_()

    def objective(x):
        logp = x.log_softmax(-1)
        return (logp.exp() * policy_losses.soft(logp, q, alpha)).sum()

    least = objective(logits)
    torch.testing.assert_close(least, -alpha.detach() * (q / alpha.detach()).logsumexp(0))
    slope, none = torch.autograd.grad(least, [logits, alpha], allow_unused=True)
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-12, rtol=0)
    assert none is None
    assert all(objective(logits + 0.1 * drawn(k, 5)) > least for k in range(1, 6))


def test_the_temperature_rises_where_the_entropy_is_too_low():
    log_alpha, logp = torch.tensor(0.7, requires_grad=True), torch.tensor([-1.0, -3.0], requires_grad=True)
    for target, sign in ((2.5, -1.0), (1.5, 1.0), (2.0, 0.0)):  # the entropy is 2
        loss = policy_losses.temperature(log_alpha, logp, target).mean()
        slope, none = torch.autograd.grad(loss, [log_alpha, logp], allow_unused=True)
        assert slope.sign() == sign
        torch.testing.assert_close(loss, slope)  # alpha is its own derivative by its logarithm
        assert none is None


def test_the_deterministic_policy_gradient_is_the_chain_rule():
    """For Q(a) = -(a - 3)^2 and a = w x, the gradient by w is x dQ/da."""
    w, x = torch.tensor(2.0, requires_grad=True), torch.tensor([1.0, -2.0])
    policy_losses.deterministic(-(w * x - 3).square()).sum().backward()
    assert w.grad == -(x * -2 * (2.0 * x - 3)).sum()


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.0, 12.0))
def test_acers_gradient_is_unbiased_however_importance_weights_are_cut(seed, c):
    """Its mean over the behaviour's actions, enumerated, is the policy gradient sum_a pi grad log pi (Q - V): what equation 7 claims."""
    logits, mu, q = drawn(seed, 3, 5) * 2
    value = drawn(seed + 1, 1)
    logits.requires_grad_()
    truth = (logits.log_softmax(-1).exp() * (q - value)).sum()
    every = torch.arange(5)
    behaviour = mu.log_softmax(-1)
    loss = policy_losses.truncated_importance(
        logits.log_softmax(-1).expand(5, 5), behaviour.expand(5, 5), every, q, q.expand(5, 5), value.expand(5), c
    )
    mean = torch.autograd.grad((behaviour.exp() * loss).sum(), logits)[0]
    torch.testing.assert_close(-mean, torch.autograd.grad(truth, logits)[0])


def test_acers_gradient_is_equation_9():
    """Written slowly, with targets that are not the critic's, and 2-dimensional batches."""
    (logits, mu, q), c = drawn(0, 3, 2, 4, 3) * 2, 1.5
    target, value, action = drawn(1, 2, 4), drawn(2, 2, 4), torch.arange(8).view(2, 4) % 3
    logits.requires_grad_()
    logp, behaviour = logits.log_softmax(-1), mu.log_softmax(-1)
    ours = policy_losses.truncated_importance(logp, behaviour, action, target, q, value, c)
    slow = torch.zeros(2, 4, 3, dtype=torch.float64)
    for i, j in np.ndindex(2, 4):
        pi, a = logp[i, j].exp().detach(), action[i, j]
        ratio = pi / behaviour[i, j].exp()
        score = torch.eye(3) - pi  # row a: the gradient of log pi(a) by the logits
        slow[i, j] = ratio[a].clamp(max=c) * score[a] * (target[i, j] - value[i, j])
        for b in range(3):
            slow[i, j] += pi[b] * max(0.0, float((ratio[b] - c) / ratio[b])) * score[b] * (q[i, j, b] - value[i, j])
    assert ours.shape == (2, 4)
    torch.testing.assert_close(-torch.autograd.grad(ours.sum(), logits)[0], slow)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 4), st.floats(0.0, 1.0))
def test_the_trust_region_is_the_quadratic_programs(seed, n, delta):
    """Against a numerical solver, row by row; a row with k = 0 is left alone."""
    g, k = drawn(seed, 2, 3, n)
    k[0] = 0.0
    got = policy_losses.trust_region(g, k, delta)
    torch.testing.assert_close(got[0], g[0])
    for row, (a, b) in enumerate(zip(g.numpy(), k.numpy(), strict=True)):
        solved = scipy.optimize.minimize(
            lambda z, a=a: 0.5 * ((z - a) ** 2).sum(),
            np.zeros(n),
            jac=lambda z, a=a: z - a,
            constraints={"type": "ineq", "fun": lambda z, b=b: delta - b @ z, "jac": lambda z, b=b: -b},
            method="SLSQP",
            options={"ftol": 1e-12},
        )
        np.testing.assert_allclose(got[row], solved.x, atol=1e-5)


def test_soft_and_twin_targets():
    reward, discount = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.0])
    q, logp = torch.tensor([[4.0, 1.0], [2.0, 5.0]]), torch.tensor([-3.0, 7.0])
    assert value_losses.twin_target(reward, discount, q).tolist() == [2.0, 2.0]
    assert value_losses.soft_target(reward, discount, q, logp, 0.5).tolist() == [1 + 0.5 * (2 + 1.5), 2.0]
    assert value_losses.soft_target(reward, discount, q, logp, torch.tensor(0.0)).tolist() == [2.0, 2.0]


def test_a_soft_target_backed_up_is_soft_value_iteration():
    """Its mean under the Boltzmann policy of Q is r + gamma alpha logsumexp(Q / alpha), the soft Bellman operator."""
    q, alpha = drawn(0, 5), 0.3
    logp = (q / alpha).log_softmax(-1)
    reward, discount = torch.full((5,), 2.0, dtype=torch.float64), torch.full((5,), 0.9, dtype=torch.float64)
    target = value_losses.soft_target(reward, discount, torch.stack([q, q + 1]), logp, alpha)
    torch.testing.assert_close((logp.exp() * target).sum(), 2 + 0.9 * alpha * (q / alpha).logsumexp(0))


def test_smoothed_actions_keep_to_the_noises_clip_and_to_the_bounds():
    """20,000 draws of noise 0.2, cut at 0.5: mean and deviation within 5 standard errors, which fails for 1 seed in 800,000.

    The deviation of the cut noise is 0.1977, with a standard error of 0.001.
    """
    action = torch.tensor([[0.0, 0.9, -3.9]]).expand(20_000, 3)
    low, high = torch.tensor([-1.0, -1.0, -4.0]), torch.tensor([1.0, 1.0, 4.0])
    got = value_losses.smoothed(action, 0.2, 0.5, low, high, torch.Generator().manual_seed(0))
    assert got[:, 0].abs().max() == 0.5
    assert got[:, 1].max() == 1.0
    assert got[:, 2].min() == -4.0
    assert abs(got[:, 0].std() - 0.1977) < 0.005
    assert got[:, 0].mean().abs() < 5 * 0.2 / 20_000**0.5
    again = value_losses.smoothed(action, 0.2, 0.5, low, high, torch.Generator().manual_seed(0))
    assert torch.equal(got, again)
    per_action = value_losses.smoothed(action, low.abs() * 0.2, 1e9, -1e9, 1e9, torch.Generator().manual_seed(0))
    assert abs(per_action[:, 2].std() - 0.8) < 0.02


def projected_slowly(probs, reward, discount, support):
    """Atom i gets the integral of the hat around it, which is flat outwards at both ends."""
    out = torch.zeros_like(probs)
    width = support[1] - support[0]
    for n, j, i in np.ndindex(*probs.shape, len(support)):
        z = min(max(reward[n] + discount[n] * support[j], support[0]), support[-1])
        out[n, i] += probs[n, j] * max(0.0, 1 - float(abs(z - support[i]) / width))
    return out


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(2, 9))
def test_the_categorical_projection_is_the_integral_of_hats(seed, atoms):
    g = torch.Generator().manual_seed(seed)
    probs = (2 * torch.randn(4, atoms, generator=g, dtype=torch.float64)).softmax(-1)
    support = torch.linspace(-2.0, 3.0, atoms, dtype=torch.float64)
    reward = torch.tensor([0.0, 0.3, 50.0, -1.1], dtype=torch.float64)
    discount = torch.tensor([1.0, 0.9, 0.9, 0.0], dtype=torch.float64)
    got = value_losses.project(probs, reward, discount, support)
    torch.testing.assert_close(got, projected_slowly(probs, reward, discount, support))
    torch.testing.assert_close(got.sum(-1), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(got[0], probs[0])  # r = 0 and gamma = 1 change nothing
    assert got[2, -1] == pytest.approx(1.0)
    torch.testing.assert_close(got[3] @ support, reward[3])  # the end of an episode is its reward


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 10**6))
def test_the_projection_keeps_the_mean_inside_the_support(seed):
    """Hats are a partition of unity that reproduces straight lines, so the mean of what does not fall off is exact."""
    g = torch.Generator().manual_seed(seed)
    probs, support = torch.rand(6, 51, generator=g), torch.linspace(-10, 10, 51)
    probs /= probs.sum(-1, keepdim=True)
    reward, discount = 2 * torch.rand(6, generator=g) - 1, 0.9 * torch.rand(6, generator=g)
    got = value_losses.project(probs, reward, discount, support)
    torch.testing.assert_close(got @ support, reward + discount * (probs @ support), atol=1e-5, rtol=1e-5)
    assert (got >= 0).all()


def test_a_support_needs_two_atoms():
    with pytest.raises(ValueError, match="2 atoms"):
        value_losses.project(torch.ones(1, 1), torch.zeros(1), torch.ones(1), torch.zeros(1))


def test_categorical_cross_entropy_is_least_at_its_target():
    target = drawn(0, 3, 6).softmax(-1).requires_grad_()
    logits = target.detach().log().requires_grad_()
    loss = value_losses.categorical(logits, target)
    torch.testing.assert_close(loss, torch.distributions.Categorical(target.detach()).entropy())
    slope, none = torch.autograd.grad(loss.sum(), [logits, target], allow_unused=True)
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-12, rtol=0)
    assert none is None
    moved = drawn(1, 3, 6)
    slow = [
        -sum(p * math.log(q) for p, q in zip(*rows, strict=True))
        for rows in zip(target.tolist(), moved.softmax(-1).tolist(), strict=True)
    ]
    torch.testing.assert_close(value_losses.categorical(moved, target).tolist(), slow)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 6), st.sampled_from([0.0, 0.4, 1.0]))
def test_the_quantile_loss_is_equation_10(seed, n, m, kappa):
    quantiles, target = drawn(seed, 3, n) * 2, drawn(seed + 1, 3, m) * 2
    slow = torch.zeros(3, dtype=torch.float64)
    for b, i, j in np.ndindex(3, n, m):
        u, tau = float(target[b, j] - quantiles[b, i]), (2 * i + 1) / (2 * n)
        size = abs(u) if kappa == 0 else 0.5 * u * u if abs(u) <= kappa else kappa * (abs(u) - 0.5 * kappa)
        slow[b] += abs(tau - (u < 0)) * size / m
    torch.testing.assert_close(value_losses.quantile_huber(quantiles, target, kappa), slow)


def test_quantile_regression_finds_the_quantiles():
    """At kappa = 0 the least loss of n quantiles of n samples is at the samples in order, the W1-nearest: moving any costs."""
    samples = drawn(0, 1, 5)
    best = samples.sort(-1).values
    least = value_losses.quantile_huber(best, samples, 0.0)
    for i in range(5):
        for by in (-0.2, 0.2):
            moved = best.clone()
            moved[0, i] += by
            assert value_losses.quantile_huber(moved, samples, 0.0) > least
