"""TRPO, ACKTR, SVPG and PPO's penalty in the runtime: resuming is exact, and learners agree."""

import io

import pytest
import torch

from ray_jobs.rl.algorithms.policy_gradient.acktr import ACKTR
from ray_jobs.rl.algorithms.policy_gradient.ppo import PPO
from ray_jobs.rl.algorithms.policy_gradient.svpg import SVPG
from ray_jobs.rl.algorithms.policy_gradient.trpo import TRPO
from tests.ray_jobs.rl.learning.test_training import recipe, run_learners, same, training
from tests.ray_jobs.rl.scripted import Memory

ALGORITHMS = {
    "trpo": TRPO(horizon=16, width=8, iterations=4, minibatches=2, anneal=True),
    "acktr": ACKTR(horizon=16, width=8, invert_every=3),
    "svpg": SVPG(horizon=16, width=8, particles=2),
    "ppo": PPO(horizon=16, width=8, epochs=2, minibatches=2, penalty_kl=0.01),
}
every = pytest.mark.parametrize("name", ALGORITHMS)


@every
@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_resuming_is_exact(name, env):
    plan = recipe(ALGORITHMS[name], env, normalize_obs=True, normalize_reward=True)
    whole, first, second, file = Memory(), Memory(), Memory(), io.BytesIO()
    training(plan, whole).go()
    training(plan, first, stop_at=512).go()
    torch.save(first.states[-1][1], file)
    file.seek(0)
    training(plan, second).go(torch.load(file, weights_only=True))
    (_, a), (_, b) = whole.states[-1], second.states[-1]
    a["learners"][0]["runners"], b["learners"][0]["runners"] = [], []  # pickles of equal environments may differ
    assert same(a, b)


@every
def test_learners_agree_bit_for_bit(name):
    plan = recipe(ALGORITHMS[name], normalize_obs=True, normalize_reward=True, steps=512)
    one, two = run_learners(plan, 2)
    assert one.counters.steps == two.counters.steps == 512
    assert (one.learner.actor.pack() == two.learner.actor.pack()).all()
