"""MinAtar's games by their ids: pictures of bits, channels first, that resume exactly."""

import numpy as np
import pytest

from ray_jobs.envs.vector import vector
from ray_jobs.recipe.plan import Play
from ray_jobs.rl.algorithms.off_policy.dqn import DQN
from ray_jobs.rl.learning import play
from tests.ray_jobs.rl.scripted import Memory


def test_a_game_is_pictures_and_continues_from_its_state():
    pytest.importorskip("minatar")
    env = vector("MinAtar/Breakout-v1", 3, {})
    assert env.reset([0, 1, 2]).shape == (3, 4, 10, 10)
    moves = np.random.default_rng(0).integers(0, 3, (40, 3))
    for move in moves[:20]:
        if (ends := env.step(move)).terminated.any():
            env.restart(ends.terminated)
    state = env.state()
    seen = [env.step(move).obs.copy() for move in moves[20:24]]
    again = vector("MinAtar/Breakout-v1", 3, {})
    again.reset([7, 8, 9])
    again.load(state)
    for move, obs in zip(moves[20:24], seen, strict=True):
        np.testing.assert_array_equal(again.step(move).obs, obs)


def test_an_agent_learns_from_its_bits():
    pytest.importorskip("minatar")
    algorithm = DQN(learning_starts=32, train_every=16, updates_per_train=2, batch_size=8, dueling=True, quantiles=4)
    plan = Play(algorithm, "MinAtar/Freeway-v1", steps=96, envs=2, eval_episodes=1)
    assert play.play(plan, seed=0, run=Memory())["env_steps"] == 96
