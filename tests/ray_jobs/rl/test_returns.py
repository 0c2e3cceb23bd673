"""Returns against their definitions written slowly, and against each other."""

import hypothesis.strategies as st
import torch
from hypothesis import given, settings

from ray_jobs.rl import returns

GAMMA = 0.9


def made(seed: int, T: int, B: int):
    """Random rewards, values, next values, discounts and carries, with terminations and truncations among them."""
    g = torch.Generator().manual_seed(seed)
    r, v, after = torch.randn(3, T, B, generator=g, dtype=torch.float64)
    terminated = torch.rand(T, B, generator=g) < 0.2
    boundary = terminated | (torch.rand(T, B, generator=g) < 0.2)
    inside = torch.cat([~boundary[:-1], torch.zeros(1, B, dtype=torch.bool)])
    after = torch.where(
        inside, torch.cat([v[1:], v[-1:]]), after
    )  # within an episode the next value is the next step's
    return r, v, after, (GAMMA * ~terminated).double(), (~boundary).double()


cases = given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 3))


def gae_slow(r, v, after, discount, carry, lam):
    """The definition, one start at a time: the sum of discounted errors up to the boundary."""
    out = torch.zeros_like(r)
    for b in range(r.shape[1]):
        for t in range(len(r)):
            weight = 1.0
            for k in range(t, len(r)):
                out[t, b] += weight * (r[k, b] + discount[k, b] * after[k, b] - v[k, b])
                weight *= float(discount[k, b] * carry[k, b]) * lam
    return out


def n_step_slow(r, after, discount, carry, n):
    out = torch.zeros_like(r)
    for b in range(r.shape[1]):
        for t in range(len(r)):
            weight, k = 1.0, t
            while True:
                out[t, b] += weight * r[k, b]
                weight *= float(discount[k, b])
                if carry[k, b] == 0 or k + 1 == len(r) or k + 1 == t + n:
                    break
                k += 1
            out[t, b] += weight * after[k, b]
    return out


@settings(deadline=None, max_examples=30)
@cases
def test_gae_is_its_definition(seed, T, B):
    args = made(seed, T, B)
    torch.testing.assert_close(returns.gae(*args, 0.8), gae_slow(*args, 0.8))


@settings(deadline=None, max_examples=30)
@cases
def test_lambda_returns_are_advantage_plus_value(seed, T, B):
    """Also where the two sides hold different values of the state after a truncation: that is the true last observation's."""
    r, v, after, discount, carry = made(seed, T, B)
    torch.testing.assert_close(
        returns.td_lambda(r, after, discount, carry, 0.7), returns.gae(r, v, after, discount, carry, 0.7) + v
    )


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 3), st.integers(1, 6))
def test_n_step_is_its_definition(seed, T, B, n):
    r, _, after, discount, carry = made(seed, T, B)
    torch.testing.assert_close(returns.n_step(r, after, discount, carry, n), n_step_slow(r, after, discount, carry, n))
    if n >= T:
        torch.testing.assert_close(
            returns.n_step(r, after, discount, carry, n), returns.discounted(r, after, discount, carry)
        )


@settings(deadline=None, max_examples=30)
@cases
def test_vtrace_on_policy_is_gae_with_lambda_one(seed, T, B):
    args = made(seed, T, B)
    excess, advantage = returns.vtrace(*args, torch.ones_like(args[0]))
    torch.testing.assert_close(excess, returns.gae(*args, 1.0))
    torch.testing.assert_close(advantage, excess)


def vtrace_slow(r, v, after, discount, carry, ratio):
    """Equation 1: v_s - V(x_s) as a sum of corrected errors."""
    rho, c, out = ratio.clamp(max=1.0), ratio.clamp(max=1.0), torch.zeros_like(r)
    for b in range(r.shape[1]):
        for s in range(len(r)):
            weight = 1.0
            for t in range(s, len(r)):
                out[s, b] += weight * rho[t, b] * (r[t, b] + discount[t, b] * after[t, b] - v[t, b])
                weight *= float(discount[t, b] * carry[t, b] * c[t, b])
    return out


@settings(deadline=None, max_examples=30)
@cases
def test_vtrace_is_its_definition(seed, T, B):
    args = made(seed, T, B)
    ratio = torch.rand(T, B, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64) * 2
    torch.testing.assert_close(returns.vtrace(*args, ratio)[0], vtrace_slow(*args, ratio))


def test_nothing_leaks_over_a_boundary():
    r, v, after, discount, carry = made(3, 9, 1)
    carry[4] = 0.0
    changed = r.clone()
    changed[5:] += 100.0
    before = returns.gae(r, v, after, discount, carry, 0.9), returns.gae(changed, v, after, discount, carry, 0.9)
    assert torch.equal(before[0][:5], before[1][:5])
    assert not torch.equal(before[0][5:], before[1][5:])


def test_both_loops_are_the_recursion():
    """The CPU's, and the one that an accelerator takes."""
    delta, decay = torch.randn(2, 10, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    here, there = returns._on_cpu(delta, decay), returns._anywhere(delta, decay)
    after = torch.cat([here[1:], torch.zeros_like(here[:1])])
    torch.testing.assert_close(here, delta + decay * after)
    torch.testing.assert_close(here, there)
