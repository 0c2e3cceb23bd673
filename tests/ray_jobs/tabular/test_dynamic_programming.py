"""Dynamic programming against the values that the book prints, that a linear solve gives, and that Gymnasium's tables have."""

import numpy as np
import pytest

from ray_jobs.tabular import mdp as mdps
from ray_jobs.tabular.dynamic_programming import (
    change_for,
    evaluation_sweep,
    greedy,
    modified_policy_iteration,
    policy_evaluation,
    policy_iteration,
    policy_values,
    sweep,
    value_iteration,
)
from ray_jobs.tabular.environments import Tabular, of_environment, of_table

MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))


def grid(rows, columns, step, gamma, moves=MOVES):
    """A grid in which `step(cell, moved)` -> (next cell or None for the end, reward); moves off the grid stay."""
    cells = [(r, c) for r in range(rows) for c in range(columns)]
    table = {}
    for i, (r, c) in enumerate(cells):
        table[i] = {}
        for a, (dr, dc) in enumerate(moves):
            moved = (min(max(r + dr, 0), rows - 1), min(max(c + dc, 0), columns - 1))
            to, reward = step((r, c), moved, (r + dr, c + dc) == moved)
            table[i][a] = [(1.0, 0 if to is None else cells.index(to), reward, to is None)]
    return of_table(table, np.eye(len(cells))[0], gamma)


def small_grid():
    """Sutton & Barto 2018, example 4.1: two corners end the episode, every step costs 1."""

    def step(cell, moved, inside):
        corners = {(0, 0), (3, 3)}
        return (None, 0.0) if cell in corners else (None if moved in corners else moved, -1.0)

    return grid(4, 4, step, 1.0)


def teleport_grid():
    """Sutton & Barto 2018, examples 3.5 and 3.8: A and B lead away for 10 and 5, walls cost 1."""

    def step(cell, moved, inside):
        if cell in ((0, 1), (0, 3)):
            return ((4, 1), 10.0) if cell == (0, 1) else ((2, 3), 5.0)
        return moved, 0.0 if inside else -1.0

    return grid(5, 5, step, 0.9)


def windy_grid():
    """Sutton & Barto 2018, example 6.5."""
    wind = (0, 0, 0, 1, 1, 1, 2, 2, 1, 0)

    def step(cell, moved, inside):
        to = (max(moved[0] - wind[cell[1]], 0), moved[1])
        return None if to == (3, 7) else to, -1.0

    return grid(7, 10, step, 1.0)


def gambler(p=0.4, goal=100):
    """Sutton & Barto 2018, example 4.3: stakes of 1 to 50; what cannot be staked is a stake of 1."""
    table = {0: {a: [(1.0, 0, 0.0, True)] for a in range(goal // 2)}}
    for s in range(1, goal):
        table[s] = {}
        for a in range(goal // 2):
            stake = a + 1 if a + 1 <= min(s, goal - s) else 1
            won, lost = s + stake, s - stake
            table[s][a] = [(p, won % goal, float(won == goal), won == goal), (1 - p, lost, 0.0, lost == 0)]
    return of_table(table, np.eye(goal)[50], 1.0)


def test_the_small_grid_under_the_uniform_policy():
    """The book's figure 4.1, by the solve and by sweeps."""
    mdp = small_grid()
    want = [0, -14, -20, -22, -14, -18, -20, -20, -20, -20, -18, -14, -22, -20, -14, 0]
    policy = mdps.uniform_policy(mdp)
    np.testing.assert_allclose(policy_values(mdp, policy), want, atol=1e-12)
    np.testing.assert_allclose(policy_evaluation(mdp, policy), want, atol=1e-9)
    two = evaluation_sweep(mdp, policy, evaluation_sweep(mdp, policy, np.zeros(16)))
    np.testing.assert_allclose(two[:4], [0, -1.75, -2, -2])


def test_the_teleport_grid():
    mdp = teleport_grid()
    uniform = policy_values(mdp, mdps.uniform_policy(mdp))
    np.testing.assert_allclose(uniform[:5], [3.3, 8.8, 4.4, 5.3, 1.5], atol=0.05)
    np.testing.assert_allclose(policy_iteration(mdp).values[:5], [22.0, 24.4, 22.0, 19.4, 17.5], atol=0.05)


def test_the_windy_grid_and_the_gambler():
    assert value_iteration(windy_grid()).values[30] == pytest.approx(-15, abs=1e-9)
    np.testing.assert_allclose(value_iteration(gambler()).values[[25, 50, 75]], [0.16, 0.4, 0.64], atol=1e-9)


ENVIRONMENTS = [
    ("FrozenLake-v1", 0.99, 0.542026),
    ("FrozenLake8x8-v1", 0.99, 0.414640),
    ("FrozenLake-v1", 1.0, 14 / 17),
    ("FrozenLake8x8-v1", 1.0, 1.0),
    ("CliffWalking-v1", 1.0, -13.0),
    ("CliffWalkingSlippery-v1", 0.99, -46.352672),
    ("Taxi-v4", 1.0, 7.93),
    ("Taxi-v4", 0.99, 6.327464),
]


@pytest.mark.parametrize(("env", "gamma", "want"), ENVIRONMENTS)
def test_gymnasium_s_tables_have_these_optimal_values(env, gamma, want):
    """Both iterations, to six digits of the known value and to 1e-9 of each other."""
    mdp = of_environment(env, gamma)
    by_policies, by_values = policy_iteration(mdp), value_iteration(mdp)
    assert mdp.start @ by_policies.values == pytest.approx(want, abs=6e-7 if gamma < 1 else 1e-9)
    assert np.abs(by_policies.values - by_values.values).max() <= 1e-9
    assert by_policies.rounds <= 20
    np.testing.assert_allclose(policy_values(mdp, by_policies.policy), by_policies.values, atol=1e-12)


def test_outcomes_with_the_same_next_state_add_up():
    mdp = of_table({0: {0: [(0.25, 0, 1.0, False), (0.25, 0, 2.0, False), (0.5, 0, 4.0, True)]}}, np.ones(1), 0.5)
    assert mdp.transition.tolist() == [[[0.5]]]
    assert mdp.reward.tolist() == [[2.75]]
    assert policy_values(mdp, np.ones((1, 1))) == pytest.approx(2.75 / 0.75)


def test_visits_of_a_process_that_ends_add_up_to_the_length_of_its_episodes():
    mdp = of_environment("FrozenLake-v1", 1.0)
    policy = mdps.uniform_policy(mdp)
    steps = mdps.MDP(mdp.transition, np.ones_like(mdp.reward), mdp.start, 1.0)
    assert mdps.occupancy(mdp, policy).sum() == pytest.approx(mdps.performance(steps, policy))


@pytest.mark.parametrize("env", ["CliffWalking-v1", "Taxi-v4"])
def test_a_policy_that_never_ends_is_refused_in_one_sentence_without_a_discount(env):
    mdp = of_environment(env, 1.0)
    up = np.eye(mdp.reward.shape[1])[np.zeros(len(mdp.start), int)]
    assert not mdps.ends_for_sure(mdp, up)
    with pytest.raises(ValueError, match=r"^Without a discount a policy has values only if it ends every episode"):
        policy_values(mdp, up)
    assert np.isfinite(policy_values(of_environment(env, 0.99), up)).all()


def test_the_error_bound_holds_and_ties_do_not_cycle():
    """After each sweep that settles at `error` the values are that close; equal actions never change the policy."""
    mdp = mdps.random_mdp(30, 4, 0.95, seed=1)
    best = policy_iteration(mdp).values
    for error in (1e-1, 1e-4, 1e-8):
        assert np.abs(value_iteration(mdp, error).values - best).max() <= error
    assert change_for(mdp, 1.0) == pytest.approx(0.05 / 0.95)
    twins = mdps.MDP(np.repeat(mdp.transition, 2, 1), np.repeat(mdp.reward, 2, 1), mdp.start, mdp.gamma)
    second = np.roll(policy_iteration(twins).policy, 1, -1)  # the other of each two equal actions
    kept = greedy(twins, best, second)
    assert (kept == second).all()
    np.testing.assert_allclose(policy_iteration(twins).values, best, atol=1e-10)


@pytest.mark.parametrize("sweeps", [1, 5, 200])
def test_modified_policy_iteration_ends_at_the_same_values(sweeps):
    mdp = mdps.random_mdp(30, 4, 0.95, seed=2)
    found = modified_policy_iteration(mdp, sweeps)
    np.testing.assert_allclose(found.values, policy_iteration(mdp).values, atol=1e-10)
    if sweeps == 1:
        assert (found.values == value_iteration(mdp).values).all()


def test_sweeps_contract_by_gamma():
    mdp, rng = mdps.random_mdp(20, 3, 0.9, seed=3), np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.normal(size=(2, 20))
        assert np.abs(sweep(mdp, a) - sweep(mdp, b)).max() <= 0.9 * np.abs(a - b).max() + 1e-12


def test_the_environment_ends_episodes_as_often_as_the_process():
    """Discounted returns of FrozenLake's MDP played under the optimal policy, within four standard errors of the solve."""
    mdp = of_environment("FrozenLake-v1", 0.9)
    found = policy_iteration(mdp)
    env, returns = Tabular(mdp, length=300), []
    env.reset(seed=0)
    for _ in range(1500):
        obs, _ = env.reset()
        total, factor, over = 0.0, 1.0, False
        while not over:
            obs, reward, terminated, truncated, _ = env.step(int(found.policy[obs.argmax()].argmax()))
            total, factor, over = total + factor * reward, factor * 0.9, terminated or truncated
            assert obs.sum() == (not terminated)
        returns.append(total)
    error = np.std(returns) / np.sqrt(len(returns))
    assert abs(np.mean(returns) - mdp.start @ found.values) < 4 * error


def test_an_environment_without_a_table_is_refused():
    with pytest.raises(ValueError, match="CartPole-v1 has no table"):
        of_environment("CartPole-v1", 0.9)
