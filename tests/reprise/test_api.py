"""The functions of the Python API."""

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch

import reprise


@pytest.fixture(scope="module")
def cart(tmp_path_factory):
    out = tmp_path_factory.mktemp("api") / "cart"
    return reprise.train("ppo", env="CartPole-v1", steps=2000, eval_episodes=2, out=out, seed=3)


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    return reprise.train("maf_density2d", steps=3, out=tmp_path_factory.mktemp("api") / "flow", width=8)


def test_it_trains_and_measures_again(cart):
    assert cart.spec.settings["env"] == "CartPole-v1" and cart.spec.seed == 3
    measured = reprise.evaluate(cart)
    assert measured["episode_return"] == cart.result["metrics"]["episode_return"]


def test_an_agent_acts_on_observations_of_the_environment(cart):
    agent = reprise.load(str(cart))
    obs, _ = gym.make("CartPole-v1").reset(seed=0)
    action = agent.act(obs)
    assert action in (0, 1) and isinstance(action, int) and agent.act(obs) == action
    drawn = {agent.act(obs, explore=True, rng=torch.Generator().manual_seed(k)) for k in range(40)}
    assert drawn == {0, 1}  # an untrained policy of two actions draws one of them 40 times with less than 1 in 10^9
    with pytest.raises(ValueError, match="observation of shape"):
        agent.act(np.zeros(7))


def test_actions_in_a_box_have_its_shape_and_bounds(tmp_path):
    agent = reprise.load(reprise.train("sac", env="Pendulum-v1", steps=300, eval_episodes=1, out=tmp_path / "run"))
    action = agent.act(gym.make("Pendulum-v1").reset(seed=0)[0])
    assert action.shape == (1,) and abs(action[0]) <= 2


def test_a_model_draws_samples_and_has_a_density(flow):
    model = reprise.load(flow)
    assert model.step == 3 and torch.equal(model.sample(5, seed=1), model.sample(5, seed=1))
    assert not torch.equal(model.sample(5, seed=1), model.sample(5, seed=2))
    assert model.log_prob(model.sample(5)).shape == (5,)
    assert reprise.sample(flow, n=4, name="few") == flow.path / "few.png"


def test_a_study_has_nothing_to_load(tmp_path):
    run = reprise.train("dp_frozenlake", out=tmp_path / "run", steps=2)
    with pytest.raises(reprise.UsageError, match="is a study, which trains neither a model nor an agent"):
        reprise.load(run)


def test_what_is_wrong_is_one_sentence(tmp_path, cart):
    for words, sentence in (
        ({"name": "pppo"}, "pppo"),
        ({"name": "ppo_cartpole", "clipp": 0.1}, "clipp"),
        ({"name": "ppo_cartpole", "runners": -1}, "--runners must be at least 0"),
    ):
        with pytest.raises(reprise.UsageError, match=sentence):
            reprise.train(out=tmp_path / "none", **words)
    with pytest.raises(reprise.UsageError, match="is finished"):
        reprise.resume(cart)


def test_importing_is_quick_and_names_are_there():
    code = "import sys, reprise; assert 'torch' not in sys.modules and 'ppo' in reprise.recipes(), reprise.recipes()"
    subprocess.run([sys.executable, "-c", code], check=True)
