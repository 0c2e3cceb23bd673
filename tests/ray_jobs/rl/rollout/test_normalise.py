"""Running moments: merging is exact, and everybody uses the same numbers."""

import hypothesis.strategies as st
import torch
from hypothesis import given, settings

from ray_jobs.recipe.plan import Play
from ray_jobs.rl.algorithms.policy_gradient.ppo import PPO
from ray_jobs.rl.learning import play
from ray_jobs.rl.rollout.normalise import Moments, RewardScale, moments
from tests.ray_jobs.rl.scripted import Memory


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_merged_moments_are_those_of_everything(seed, sizes):
    parts = [
        torch.randn(n, 3, generator=torch.Generator().manual_seed(seed + i)) * 5 + 100 for i, n in enumerate(sizes)
    ]
    running = Moments((3,))
    for part in parts:
        running.add(moments(part, lambda x: x, 1))
    whole = torch.cat(parts).double()
    assert running.count == len(whole)
    torch.testing.assert_close(running.mean, whole.mean(0))
    torch.testing.assert_close(running.square, (whole - whole.mean(0)).square().sum(0), rtol=1e-9, atol=1e-9)
    z = running(torch.cat(parts))
    if len(whole) > 2:
        assert z.mean().abs() < 1e-3


def test_reward_scale_is_the_deviation_of_running_returns():
    """Two fragments are as one: what a return has come to is carried over, and restarts at a boundary."""
    g = torch.Generator().manual_seed(0)
    reward, boundary = torch.randn(12, 2, generator=g), torch.rand(12, 2, generator=g) < 0.2
    whole, halves = RewardScale(0.9), RewardScale(0.9)
    once = whole.returns("a", reward, boundary)
    twice = torch.cat([halves.returns("a", reward[s], boundary[s]) for s in (slice(0, 5), slice(5, 12))])
    assert torch.equal(once, twice)
    for b in range(2):
        running = 0.0
        for t in range(12):
            running = 0.9 * running + float(reward[t, b])
            assert abs(float(once[t, b]) - running) < 1e-5
            running = 0.0 if boundary[t, b] else running


def test_the_evaluation_uses_what_training_learned():
    """Acrobot's velocities are not on the scale of 1: the learned numbers are in the checkpoint, and are not the initial ones."""
    memory = Memory()
    plan = Play(PPO(horizon=64, width=8), "Acrobot-v1", steps=512, envs=4, eval_episodes=1, normalize_obs=True)
    play.play(plan, seed=0, run=memory)
    actor = memory.states[-1][1]["learners"][0]["learner"]["actor"]
    assert actor["norm.count"] == 512
    assert (actor["norm.scale"] != 1).all()


def test_returns_of_a_column_that_starts_again_begin_at_nothing():
    scale, reward, never = RewardScale(0.5), torch.ones(1, 2), torch.zeros(1, 2, dtype=torch.bool)
    scale.restart("a", torch.tensor([True, True]))
    assert scale.returns("a", reward, never).tolist() == [[1, 1]]
    scale.restart("a", torch.tensor([False, True]))
    assert scale.returns("a", reward, never).tolist() == [[1.5, 1]]
