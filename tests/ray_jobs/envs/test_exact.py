"""The problems with known answers: each answer against another way to it, and the environments against the problems."""

import numpy as np
import pytest

from ray_jobs.envs import lqr
from ray_jobs.tabular import environments
from ray_jobs.tabular import mdp as tabular


def slope(f, x: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    """Central differences of a scalar function."""
    out = np.zeros_like(x)
    for i in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[i] = eps
        out[i] = (f(x + step) - f(x - step)) / (2 * eps)
    return out


def test_values_are_the_sum_of_discounted_rewards():
    """The linear solves against 400 steps of the Bellman operator, and visits against their definition."""
    mdp, policy = tabular.random_mdp(seed=1), tabular.softmax(np.random.default_rng(0).normal(size=(5, 3)))
    v, here, visits = np.zeros(5), mdp.start, np.zeros(5)
    moves = np.einsum("sa,sat->st", policy, mdp.transition)
    for t in range(400):
        v = (policy * (mdp.reward + mdp.gamma * mdp.transition @ v)).sum(-1)
        visits, here = visits + mdp.gamma**t * here, here @ moves
    np.testing.assert_allclose(tabular.state_values(mdp, policy), v, atol=1e-10)
    np.testing.assert_allclose((policy * tabular.action_values(mdp, policy)).sum(-1), v, atol=1e-10)
    np.testing.assert_allclose(tabular.occupancy(mdp, policy), visits, atol=1e-10)
    np.testing.assert_allclose(tabular.stationary(mdp, policy), here, atol=1e-10)


def test_the_policy_gradient_is_the_slope_of_the_performance():
    mdp, logits = tabular.random_mdp(seed=2), np.random.default_rng(1).normal(size=(5, 3))
    found = slope(lambda x: tabular.performance(mdp, tabular.softmax(x)), logits)
    np.testing.assert_allclose(tabular.policy_gradient(mdp, logits), found, atol=1e-8)


def test_soft_values_are_those_of_the_policy_that_they_imply():
    """pi = softmax(Q / alpha) has, with its entropy paid, the very values Q; and with alpha -> 0 they are the greedy ones."""
    mdp, alpha = tabular.random_mdp(seed=3), 0.3
    q = tabular.soft_action_values(mdp, alpha)
    policy = tabular.softmax(q / alpha)
    paid = tabular.MDP(mdp.transition, mdp.reward - alpha * np.log(policy), mdp.start, mdp.gamma)
    np.testing.assert_allclose(tabular.action_values(paid, policy), q - alpha * np.log(policy), atol=1e-8)
    greedy = np.eye(3)[tabular.soft_action_values(mdp, 1e-3).argmax(-1)]
    assert (tabular.action_values(mdp, greedy).argmax(-1) == greedy.argmax(-1)).all()


def test_the_environment_plays_the_process():
    """Frequencies of next states from each state and action, within five standard errors; episodes are cut, and never end."""
    env = environments.make(seed=4, length=10)
    rng, counts = np.random.default_rng(0), np.zeros_like(env.mdp.transition)
    obs, _ = env.reset(seed=0)
    for t in range(30_000):
        s, a = obs.argmax(), rng.integers(3)
        obs, reward, terminated, truncated, _ = env.step(a)
        assert reward == env.mdp.reward[s, a]
        assert not terminated
        assert truncated == (t % 10 == 9)
        counts[s, a, obs.argmax()] += 1
        if truncated:
            obs, _ = env.reset()
    n, p = counts.sum(-1, keepdims=True), env.mdp.transition
    assert (np.abs(counts / n - p) < 5 * np.sqrt(p * (1 - p) / n) + 1e-9).all()


def test_the_gain_s_gradient_is_the_slope_of_its_performance():
    problem, gain = lqr.pendulum_like(), np.array([[0.8, 0.6]])
    found = slope(lambda k: lqr.performance(problem, k), gain)
    np.testing.assert_allclose(lqr.policy_gradient(problem, gain), found, rtol=1e-6)


def test_no_gain_is_better_than_the_best():
    problem = lqr.pendulum_like()
    best = lqr.best_gain(problem)
    np.testing.assert_allclose(lqr.policy_gradient(problem, best), 0, atol=1e-8)
    rng = np.random.default_rng(0)
    others = [lqr.performance(problem, best + 0.2 * rng.normal(size=best.shape)) for _ in range(50)]
    assert max(others) < lqr.performance(problem, best)


def test_a_gain_that_lets_go_is_refused():
    with pytest.raises(ValueError, match="discounted cost is infinite"):
        lqr.performance(lqr.pendulum_like(0.99), np.array([[-5.0, 0.0]]))


def test_the_cart_moves_as_the_problem_says():
    """The mean discounted return of many episodes under a gain, within four standard errors."""
    env, gain = lqr.make(length=120), np.array([[0.8, 0.6]])
    returns = []
    for seed in range(400):
        env.reset(seed=seed)
        total, factor, over = 0.0, 1.0, False
        while not over:
            _, reward, _, over, _ = env.step(-gain @ env.x)
            total, factor = total + factor * reward, factor * env.lqr.gamma
        returns.append(total)
    error = np.std(returns) / np.sqrt(len(returns))
    assert abs(np.mean(returns) - lqr.performance(env.lqr, gain)) < 4 * error
