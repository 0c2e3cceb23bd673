"""Returns against their definitions written slowly, against each other, and against the exact values of a small problem."""

import itertools

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from ray_jobs.rl.maths import returns

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


@settings(derandomize=True, deadline=None, max_examples=30)
@cases
def test_gae_is_its_definition(seed, T, B):
    args = made(seed, T, B)
    torch.testing.assert_close(returns.gae(*args, 0.8), gae_slow(*args, 0.8))


@settings(derandomize=True, deadline=None, max_examples=30)
@cases
def test_lambda_returns_are_advantage_plus_value(seed, T, B):
    """Also where the two sides hold different values of the state after a truncation: that is the true last observation's."""
    r, v, after, discount, carry = made(seed, T, B)
    torch.testing.assert_close(
        returns.td_lambda(r, after, discount, carry, 0.7), returns.gae(r, v, after, discount, carry, 0.7) + v
    )


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 3), st.integers(1, 6))
def test_n_step_is_its_definition(seed, T, B, n):
    r, _, after, discount, carry = made(seed, T, B)
    torch.testing.assert_close(returns.n_step(r, after, discount, carry, n), n_step_slow(r, after, discount, carry, n))
    if n >= T:
        torch.testing.assert_close(
            returns.n_step(r, after, discount, carry, n), returns.discounted(r, after, discount, carry)
        )


@settings(derandomize=True, deadline=None, max_examples=30)
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


@settings(derandomize=True, deadline=None, max_examples=30)
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


def test_its_loop_is_the_recursion():
    """Of one seed, and of several at once."""
    delta, decay = torch.randn(2, 10, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = returns.accumulate(delta, decay)
    after = torch.cat([found[1:], torch.zeros_like(found[:1])])
    torch.testing.assert_close(found, delta + decay * after)
    torch.testing.assert_close(torch.func.vmap(returns.accumulate, in_dims=2, out_dims=2)(delta, decay), found)


def ratios(seed: int, T: int, B: int):
    return torch.rand(T, B, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64) * 2


def retrace_slow(r, q, after, discount, carry, ratio, lam):
    """The operator as the sum that defines it: Q plus corrected errors, with what is to come after the first step weighted by traces."""
    out = q.clone()
    for b in range(r.shape[1]):
        for s in range(len(r)):
            weight = 1.0
            for t in range(s, len(r)):
                if t > s:
                    weight *= float(discount[t - 1, b] * carry[t - 1, b]) * lam * min(1.0, float(ratio[t, b]))
                out[s, b] += weight * (r[t, b] + discount[t, b] * after[t, b] - q[t, b])
    return out


def retrace_recursion(r, q, after, discount, carry, ratio):
    """ACER's equation 5, backwards, with the value itself after the last row and at a boundary."""
    out, later = torch.zeros_like(r), torch.zeros_like(r[0])
    for t in reversed(range(len(r))):
        out[t] = r[t] + discount[t] * (carry[t] * later + after[t])
        later = ratio[t].clamp(max=1.0) * (out[t] - q[t])
    return out


@settings(derandomize=True, deadline=None, max_examples=30)
@cases
def test_retrace_is_its_definition(seed, T, B):
    r, q, after, discount, carry = made(seed, T, B)
    ratio = ratios(seed, T, B)
    for lam in (1.0, 0.6):
        got = returns.retrace(r, q, after, discount, carry, ratio, lam)
        torch.testing.assert_close(got, retrace_slow(r, q, after, discount, carry, ratio, lam))
    torch.testing.assert_close(
        returns.retrace(r, q, after, discount, carry, ratio), retrace_recursion(r, q, after, discount, carry, ratio)
    )


@settings(derandomize=True, deadline=None, max_examples=30)
@cases
def test_without_a_trace_everything_is_one_step(seed, T, B):
    r, v, after, discount, carry = made(seed, T, B)
    one = r + discount * after
    for other in (
        returns.gae(r, v, after, discount, carry, 0.0) + v,
        returns.td_lambda(r, after, discount, carry, 0.0),
        returns.n_step(r, after, discount, carry, 1),
        returns.retrace(r, v, after, discount, carry, ratios(seed, T, B), 0.0),
        returns.vtrace(r, v, after, discount, carry, torch.ones_like(r), c_max=0.0)[0] + v,
        returns.discounted(r, after, discount, torch.zeros_like(carry)),
    ):
        torch.testing.assert_close(other, one)


@settings(derandomize=True, deadline=None, max_examples=30)
@cases
def test_with_a_full_trace_everything_is_the_discounted_return(seed, T, B):
    r, v, after, discount, carry = made(seed, T, B)
    whole, ones = returns.discounted(r, after, discount, carry), torch.ones_like(r)
    for other in (
        returns.gae(r, v, after, discount, carry, 1.0) + v,
        returns.td_lambda(r, after, discount, carry, 1.0),
        returns.n_step(r, after, discount, carry, T),
        returns.vtrace(r, v, after, discount, carry, ones)[0] + v,
        returns.retrace(r, v, after, discount, carry, ones),
    ):
        torch.testing.assert_close(other, whole)


@settings(derandomize=True, deadline=None, max_examples=30)
@cases
def test_lambda_returns_are_mixtures_of_n_step_returns(seed, T, B):
    """Equation 12.3 of Sutton and Barto: (1 - lambda) sum of lambda^(n-1) G^(n), and what is left on the last."""
    r, _, after, discount, carry = made(seed, T, B)
    lam = 0.7
    weights = [(1 - lam) * lam ** (n - 1) for n in range(1, T)] + [lam ** (T - 1)]
    mixed = sum(w * returns.n_step(r, after, discount, carry, n + 1) for n, w in enumerate(weights))
    torch.testing.assert_close(returns.td_lambda(r, after, discount, carry, lam), mixed)


@settings(derandomize=True, deadline=None, max_examples=30)
@cases
def test_vtrace_is_retrace_of_the_value_with_its_first_step_weighted_too(seed, T, B):
    """With rho_max = c_max = 1 and Q = V: v_s - V = min(1, ratio_s) (Qret_s - V)."""
    args = made(seed, T, B)
    ratio = ratios(seed, T, B)
    error = ratio.clamp(max=1.0) * (returns.retrace(*args, ratio) - args[1])
    for ours in returns.vtrace(*args, ratio):
        torch.testing.assert_close(ours, error)


STATES, ACTIONS, T = 3, 2, 3


class Truth:
    """A random problem with a policy pi and a behaviour mu, and every trajectory of T steps with its probability under mu.

    Reaching state 0 ends the episode; the next one starts there.
    """

    def __init__(self, seed: int) -> None:
        g = torch.Generator().manual_seed(seed)
        self.moves = torch.rand(STATES, ACTIONS, STATES, generator=g, dtype=torch.float64) + 0.1
        self.moves /= self.moves.sum(-1, keepdim=True)
        self.gain = torch.randn(STATES, ACTIONS, STATES, generator=g, dtype=torch.float64)
        self.pi, self.mu = (2 * torch.randn(2, STATES, ACTIONS, generator=g, dtype=torch.float64)).softmax(-1)
        self.discounts = GAMMA * (torch.arange(STATES) != 0).double()
        rows = torch.tensor(list(itertools.product(range(STATES), *[range(ACTIONS), range(STATES)] * T))).T
        self.state, self.action, self.next = rows[0:-1:2], rows[1::2], rows[2::2]
        step = self.state, self.action
        self.chance = (self.mu[step] * self.moves[(*step, self.next)]).prod(0)
        self.ratio, self.reward = self.pi[step] / self.mu[step], self.gain[(*step, self.next)]
        self.discount = self.discounts[self.next]

    def carries(self):
        """Without a time limit, and with one after the second step, whatever happened before."""
        whole = (self.next != 0).double()
        cut = whole.clone()
        cut[1] = 0.0
        return whole, cut

    def value(self, policy):
        """V [S] of a policy, by solving Bellman's equation."""
        onwards = torch.einsum("sa,sat,t->st", policy, self.moves, self.discounts)
        return torch.linalg.solve(torch.eye(STATES) - onwards, (policy * (self.moves * self.gain).sum(-1)).sum(-1))

    def q(self, value):
        """Q [S, A]: one step, and then `value`."""
        return (self.moves * (self.gain + self.discounts * value)).sum(-1)

    def expected(self, x, *first):
        """E[x | what each trajectory has in the rows `first`], flattened."""
        at = first[0] if len(first) == 1 else first[0] * ACTIONS + first[1]
        total, chance = torch.zeros(2, int(at.max()) + 1, dtype=x.dtype)
        return total.index_add(0, at, self.chance * x) / chance.index_add(0, at, self.chance)


@pytest.mark.parametrize("lam", [1.0, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_retrace_leads_to_the_exact_values_from_another_policys_data(seed, lam):
    """By enumerating all trajectories: Q^pi is where it stays, and from anywhere else it comes nearer by gamma at least (theorem 1)."""
    it = Truth(seed)
    exact = it.q(it.value(it.pi))

    def improved(q, carry):
        taken, after = q[it.state, it.action], (it.pi * q).sum(-1)[it.next]
        target = returns.retrace(it.reward, taken, after, it.discount, carry, it.ratio, lam)
        return it.expected(target[0], it.state[0], it.action[0]).view(STATES, ACTIONS)

    for carry in it.carries():
        torch.testing.assert_close(improved(exact, carry), exact)
        q = torch.randn(STATES, ACTIONS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for _ in range(300):
            before, q = q, improved(q, carry)
            assert (q - exact).abs().max() <= GAMMA * (before - exact).abs().max() + 1e-12
        torch.testing.assert_close(q, exact)


@pytest.mark.parametrize(("rho_max", "c_max"), [(1.0, 1.0), (2.0, 0.7), (1e9, 1.0)])
@pytest.mark.parametrize("seed", range(3))
def test_vtrace_leads_to_the_exact_values_of_its_policy(seed, rho_max, c_max):
    """That policy is min(rho_max mu, pi), normalised: Espeholt et al., equation 3; pi itself where nothing is cut off."""
    it = Truth(seed)
    policy = torch.minimum(rho_max * it.mu, it.pi)
    exact = it.value(policy / policy.sum(-1, keepdim=True))

    def improved(v, carry):
        excess, advantage = returns.vtrace(
            it.reward, v[it.state], v[it.next], it.discount, carry, it.ratio, rho_max=rho_max, c_max=c_max
        )
        return v + it.expected(excess[0], it.state[0]), it.expected(advantage[0], it.state[0])

    for carry in it.carries():
        v, advantage = improved(exact, carry)
        torch.testing.assert_close(v, exact)
        torch.testing.assert_close(advantage, torch.zeros_like(exact))
        v = torch.randn(STATES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for _ in range(600):
            v, _ = improved(v, carry)
        torch.testing.assert_close(v, exact)
