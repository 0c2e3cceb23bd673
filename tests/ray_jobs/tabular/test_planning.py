"""Dynamic programming as processes: the bits of the plain loops, exact values, and states that no failed map has touched."""

import gymnasium as gym
import numpy as np
import pytest

from ray_jobs.distributed.crew import Here, Stopped
from ray_jobs.tabular import pictures
from ray_jobs.tabular.dynamic_programming import (
    modified_policy_iteration,
    policy_iteration,
    policy_values,
    value_iteration,
)
from ray_jobs.tabular.environments import of_environment
from ray_jobs.tabular.mdp import random_mdp, uniform_policy
from ray_jobs.tabular.planning import ModifiedPolicyIteration, PolicyEvaluation, PolicyIteration, ValueIteration
from ray_jobs.tabular.problems import best_limited_return, limited_return, problem

ALL = [ValueIteration(), PolicyIteration(), PolicyEvaluation(), ModifiedPolicyIteration()]


def solved(process, seed=0):
    """The state at its end, and the units until there."""
    state, step = process.begin(seed), 0
    while not process.done(state):
        process.advance(state, step, seed, Here())
        step += 1
    return state, step


@pytest.mark.parametrize("shards", [1, 4, 64, 100])
@pytest.mark.parametrize("env", ["FrozenLake8x8-v1", "Taxi-v4"])
def test_value_iteration_in_blocks_has_the_values_of_the_loop(env, shards):
    state, sweeps = solved(ValueIteration(env, shards=shards))
    want = value_iteration(of_environment(env, 0.99))
    assert sweeps == want.rounds == len(state["errors"]) - 1
    np.testing.assert_allclose(state["values"], want.values, rtol=0, atol=1e-14 * np.abs(want.values).max())


@pytest.mark.parametrize("shards", [1, 5])
def test_policy_iteration_in_blocks_has_the_policy_of_the_loop(shards):
    state, improvements = solved(PolicyIteration(shards=shards))
    want = policy_iteration(of_environment("FrozenLake8x8-v1", 0.99))
    assert improvements == want.rounds + 1, "the last changes nothing"
    assert (state["policy"] == want.policy).all()
    assert (state["values"] == want.values).all()


@pytest.mark.parametrize("sweeps", [1, 7, 300])
def test_modified_policy_iteration_in_blocks_has_the_values_of_the_loop(sweeps):
    """One sweep is value iteration to the bit; with many there are far fewer improvements than sweeps of value iteration."""
    state, improvements = solved(ModifiedPolicyIteration(sweeps=sweeps))
    mdp = of_environment("FrozenLake8x8-v1", 0.99)
    want = modified_policy_iteration(mdp, sweeps)
    assert improvements == want.rounds
    np.testing.assert_allclose(state["values"], want.values, rtol=0, atol=1e-14)
    if sweeps == 1:
        assert (state["values"] == solved(ValueIteration())[0]["values"]).all()
    if sweeps == 300:
        assert improvements < solved(ValueIteration())[1] / 20


@pytest.mark.parametrize("policy", ["uniform", "best", f"{__name__}:second"])
def test_policy_evaluation_has_the_values_of_the_solve(policy):
    mdp = of_environment("FrozenLake8x8-v1", 0.99)
    process = PolicyEvaluation(policy=policy)
    state, _ = solved(process)
    own = {"uniform": uniform_policy(mdp), "best": policy_iteration(mdp).policy}.get(policy, second(mdp))
    np.testing.assert_allclose(state["values"], policy_values(mdp, own), atol=1e-12)
    assert process.result(state, 0, Here())["value_error"] <= 1e-12


def second(mdp):
    """The policy that always takes the second action."""
    return np.eye(4)[np.ones(len(mdp.start), int)]


def test_a_policy_that_never_ends_has_no_values_without_a_discount():
    process = PolicyEvaluation("CliffWalking-v1", policy=f"{__name__}:second", gamma=1.0)
    with pytest.raises(ValueError, match=r"^Without a discount a policy has values only if it ends every episode"):
        process.begin(0)


EXACT = [
    ("FrozenLake8x8-v1", 0.99, 0.414640, 0.862955, 0.913220),
    ("FrozenLake8x8-v1", 1.0, 1.0, 0.885654, 0.913220),
    ("FrozenLake-v1", 0.99, 0.542026, 0.740165, 0.744190),
    ("Taxi-v4", 0.99, 6.327464, 7.93, 7.93),
    ("CliffWalkingSlippery-v1", 0.99, -46.352672, None, None),
]


@pytest.mark.parametrize(("env", "gamma", "start", "reached", "best"), EXACT)
def test_the_result_has_the_known_values(env, gamma, start, reached, best):
    process = ValueIteration(env, gamma=gamma)
    state, _ = solved(process)
    found = process.result(state, 0, Here())
    assert found["value_error"] <= 1e-9
    assert found["start_value"] == pytest.approx(start, abs=6e-7)
    assert found["best_start_value"] == pytest.approx(start, abs=6e-7)
    assert (found.get("episode_return"), found.get("best_episode_return")) == (
        reached and pytest.approx(reached, abs=6e-7),
        best and pytest.approx(best, abs=6e-7),
    )


def test_policy_iteration_is_optimal_by_its_residual():
    process = PolicyIteration()
    found = process.result(solved(process)[0], 0, Here())
    assert found["residual"] / (1 - 0.99) <= 1e-12
    assert found["start_value"] == pytest.approx(0.414640, abs=6e-7)


def test_the_chance_of_success_is_that_of_episodes_played():
    """2,000 episodes of FrozenLake with its time limit, under the policy that is optimal at gamma 0.99."""
    found = problem("FrozenLake-v1", 0.99, None, 0)
    policy = policy_iteration(found.mdp).policy.argmax(-1)
    env, won = gym.make("FrozenLake-v1"), 0.0
    env.reset(seed=0)
    for _ in range(2000):
        state, over = env.reset()[0], False
        while not over:
            state, reward, terminated, truncated, _ = env.step(int(policy[state]))
            won, over = won + float(reward), terminated or truncated
    exact = limited_return(found.mdp, np.eye(4)[policy], found.limit)
    assert exact == pytest.approx(0.740165, abs=6e-7)
    assert abs(won / 2000 - exact) < 4 * (exact * (1 - exact) / 2000) ** 0.5


def test_nobody_is_better_within_the_limit_than_who_knows_the_time():
    mdp, rng = of_environment("FrozenLake8x8-v1", 1.0), np.random.default_rng(0)
    best = best_limited_return(mdp, 50)
    policies = [np.eye(4)[rng.integers(0, 4, 64)] for _ in range(20)] + [policy_iteration(mdp).policy]
    assert all(limited_return(mdp, p, 50) <= best for p in policies)


def test_a_function_makes_a_problem_of_the_seed():
    found = [problem("ray_jobs.tabular.mdp:random_mdp", 0.9, {"states": 6, "actions": 2}, seed).mdp for seed in (0, 1)]
    assert (found[1].transition == random_mdp(6, 2, 0.9, 1).transition).all()
    assert (found[0].transition != found[1].transition).any()


class Broken(Here):
    """A crew that stops in its last shard."""

    def map(self, function, shards):
        for shard in list(shards)[:-1]:
            function(shard)
        raise Stopped


@pytest.mark.parametrize("process", ALL, ids=lambda p: type(p).__name__)
def test_a_map_that_raises_leaves_the_state_as_it_was(process):
    state = process.begin(0)
    process.advance(state, 0, 0, Here())
    before = {k: np.copy(v) for k, v in state.items()}
    with pytest.raises(Stopped):
        process.advance(state, 1, 0, Broken())
    assert all(np.array_equal(before[k], state[k]) for k in state) and before.keys() == state.keys()


@pytest.mark.parametrize(
    ("env", "want"),
    [
        ("FrozenLake8x8-v1", [(0, -1), (1, 0), (0, 1), (-1, 0)]),
        ("CliffWalking-v1", [(-1, 0), (0, 1), (1, 0), (0, -1)]),
        ("CliffWalkingSlippery-v1", [(-1, 0), (0, 1), (1, 0), (0, -1)]),
    ],
)
def test_arrows_point_where_actions_lead(env, want):
    found = problem(env, 0.99, None, 0)
    assert pictures.directions(found.mdp, found.letters.shape[1]) == want


@pytest.mark.parametrize("env", ["FrozenLake-v1", "CliffWalking-v1", "Taxi-v4"])
def test_pictures_are_drawn(env, tmp_path):
    process = PolicyIteration(env)
    process.pictures(process.begin(0), tmp_path)  # the uniform policy: four arrows in each cell
    assert {p.name for p in tmp_path.iterdir()} == {"value.png", "convergence.png"}
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in tmp_path.iterdir())


def test_maps_have_their_marks():
    lake, cliff = (problem(env, 1.0, None, 0).letters for env in ("FrozenLake-v1", "CliffWalking-v1"))
    assert ["".join(row) for row in lake] == ["SFFF", "FHFH", "FFFH", "HFFG"]
    assert "".join(cliff[-1]) == "S" + 10 * "C" + "G" and set("".join(cliff[:-1].ravel())) == {"F"}
    assert problem("Taxi-v4", 1.0, None, 0).letters is None
