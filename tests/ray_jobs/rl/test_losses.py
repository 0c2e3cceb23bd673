"""Losses and networks against their formulas, values and derivatives."""

import math

import gymnasium as gym
import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from ray_jobs.rl import policy_losses, value_losses
from ray_jobs.rl.algorithm import Alone, adam, descend, rebind, standardise
from ray_jobs.rl.nets import TanhMLP, mlp
from ray_jobs.rl.policies import Categorical, Gaussian, policy_for


@settings(deadline=None, max_examples=30)
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
    with pytest.raises(RuntimeError, match=r"nets\.mlp"):
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
        descend(one(x).square().mean() * 10, ours, Alone(torch.Generator()), 0.1)
        theirs.zero_grad()
        (two(x).square().mean() * 10).backward()
        nn.utils.clip_grad_norm_(two.parameters(), 0.1)
        theirs.step()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_rebound_parameters_are_views(seeded):
    net = nn.Linear(3, 2)
    flat = rebind(list(net.parameters()))
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
