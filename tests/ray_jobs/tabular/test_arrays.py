"""MDPs from files of arrays: the same as by hand, and what is no MDP is refused in one sentence."""

import numpy as np
import pytest

from ray_jobs import cli
from ray_jobs.recipe.process import generator
from ray_jobs.tabular.draws import Simulator, outcomes_of
from ray_jobs.tabular.environments import of_environment, of_table
from ray_jobs.tabular.mdp import MDP, random_mdp, state_values, uniform_policy
from ray_jobs.tabular.problems import problem

LINE = np.array([[[0.0, 1.0, 0.0]], [[0.5, 0.0, 0.5]], [[0.0, 0.0, 1.0]]])
"""0 leads to 1; 1 leads back to 0 or on to 2, where the episode ends."""
PAID = np.array([[[0.0, 1.0, 0.0]], [[-2.0, 0.0, 4.0]], [[0.0, 0.0, 9.0]]])


def saved(folder, **arrays):
    np.savez(folder / "mdp.npz", **arrays)
    return str(folder / "mdp.npz")


def test_arrays_are_an_mdp_whose_episodes_end(tmp_path):
    path = saved(tmp_path, transition=LINE, reward=PAID, terminal=[False, False, True])
    mdp = problem(path, 1.0, None, 0).mdp
    assert mdp.start.tolist() == [0.5, 0.5, 0.0]
    np.testing.assert_allclose(state_values(mdp, uniform_policy(mdp)), [4.0, 3.0, 0.0], atol=1e-12)
    after, reward = Simulator.of(mdp).step(np.ones(1_000, np.int64), np.zeros(1_000, np.int64), generator(0))
    assert set(zip(after.tolist(), reward.tolist(), strict=True)) == {(0, -2.0), (3, 4.0)}


def test_without_terminal_states_they_are_the_process_itself(tmp_path):
    known = random_mdp(4, 2, 0.9, 3)
    path = saved(tmp_path, transition=known.transition, reward=known.reward, start=known.start)
    mdp = problem(path, 0.9, None, 0).mdp
    assert (mdp.transition == known.transition).all() and (mdp.start == known.start).all()
    np.testing.assert_allclose(mdp.reward, known.reward, atol=1e-12)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"transition": 0.9 * LINE}, r"mdp.npz: the probabilities of state 0, action 0 sum to 0.9; .* sum to 1\.$"),
        ({"transition": LINE * [[[1.0, 1.0, -1.0]]]}, "the probabilities of state 1, action 0 sum to 0"),
        ({"transition": LINE[0]}, r"must have a transition \[S, A, S\] and a reward .*, not \[1, 3\] and \[3, 1, 3\]"),
        ({"reward": PAID[:2]}, r"not \[3, 1, 3\] and \[2, 1, 3\]"),
        ({"reward": np.full((3, 1), np.nan)}, "every reward must be a finite number"),
        ({"start": [0.5, 0.0, 0.0]}, r"the probabilities of the start sum to 0.5"),
        ({"terminal": [True, False, False], "start": [1.0, 0.0, 0.0]}, "start must be 0 where terminal is true"),
        ({"terminal": [True]}, "must have 3 states each"),
    ],
)
def test_what_is_no_mdp_is_refused(arrays, said, tmp_path):
    path = saved(tmp_path, **({"transition": LINE, "reward": PAID} | arrays))
    with pytest.raises(ValueError, match=said) as error:
        problem(path, 0.9, None, 0)
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "text.npz").write_text("no arrays")
    for name, said in (("none.npz", "No such file"), ("text.npz", "cannot be read")):
        with pytest.raises(ValueError, match=said):
            problem(str(tmp_path / name), 0.9, None, 0)
    with pytest.raises(ValueError, match="it lacks reward"):
        problem(saved(tmp_path, transition=LINE), 0.9, None, 0)


MINE = """
import gymnasium as gym
import numpy as np


class Mine(gym.Env):
    observation_space, action_space = gym.spaces.Discrete(1), gym.spaces.Discrete(1)
    P = {0: {0: [(0.5, 0, 1.0, False), (0.5, 0, 3.0, True)]}}
    initial_state_distrib = np.ones(1)


gym.register("Mine-v0", Mine, max_episode_steps=7)
"""


def test_an_environment_that_a_module_registers_works_by_name(tmp_path, monkeypatch):
    (tmp_path / "registers_mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    found = problem("registers_mine:Mine-v0", 1.0, None, 0)
    assert found.limit == 7
    assert state_values(found.mdp, uniform_policy(found.mdp)) == pytest.approx(4.0)


def broken(gamma, seed):
    """A process whose rows sum to more than 1."""
    return MDP(1.5 * np.ones((1, 1, 1)), np.zeros((1, 1)), np.ones(1), gamma)


def test_a_function_and_a_table_are_checked_too():
    with pytest.raises(ValueError, match=r"state 0, action 0 sum to 1.5; they must be at least 0 and sum to 1 or less"):
        problem(f"{__name__}:broken", 0.9, None, 0)
    with pytest.raises(ValueError, match=r"^The probabilities of state 0, action 0 sum to 0.7"):
        of_table({0: {0: [(0.7, 0, 1.0, False)]}}, np.ones(1), 0.9)


@pytest.mark.parametrize("env", ["FrozenLake-v1", "CliffWalkingSlippery-v1", "Taxi-v4"])
def test_outcomes_have_the_means_of_the_table(env):
    """Summed over its outcomes, each state and action has its transitions and its mean reward."""
    mdp = of_environment(env, 0.9)
    probability, after, reward = outcomes_of(mdp)
    np.testing.assert_allclose((probability * reward).sum(-1), mdp.reward, atol=1e-12)
    np.testing.assert_allclose(probability.sum(-1), 1.0, atol=1e-12)
    values = np.random.default_rng(0).normal(size=len(mdp.start))
    ahead = (probability * np.append(values, 0.0)[after]).sum(-1)
    np.testing.assert_allclose(ahead, mdp.transition @ values, atol=1e-12)


def test_as_a_user_meets_it(tmp_path, capsys):
    path = saved(tmp_path, transition=LINE, reward=PAID, terminal=[False, False, True])
    assert cli.main(["train", "dp_frozenlake", "--env", path, "--gamma", "1", "--out", str(tmp_path / "run")]) == 0
    assert "value_error" in capsys.readouterr().out
    saved(tmp_path, transition=0.5 * LINE, reward=PAID)
    words = ["train", "policy_evaluation_frozenlake", "--env", path, "--out", str(tmp_path / "no")]
    assert cli.main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1
