"""What an environment shows and pays: kept as it is, turned where it must be, and refused where it would become something else."""

import gymnasium as gym
import numpy as np
import pytest

from ray_jobs.envs.failures import TimedEnv
from ray_jobs.envs.multi_agent import MultiAgent
from ray_jobs.envs.spaces import Observations, number
from ray_jobs.envs.vector import SequentialEnv, vector
from ray_jobs.rl.algorithms.policy_gradient.ppo import PPO
from ray_jobs.rl.rollout.runner import EnvRunner, RunnerSpec
from tests.ray_jobs.rl.scripted import Count, Team

BYTES = gym.spaces.Box(0, 255, (3,), np.uint8)
HERE = f"{__name__}:"


@pytest.mark.parametrize(
    ("space", "obs", "stored"),
    [
        (BYTES, np.array([1, 2, 255]), [1, 2, 255]),  # int64, as numpy makes it
        (BYTES, [1, 2, 3], [1, 2, 3]),
        (BYTES, np.array([1.0, 2.0, 3.0]), [1, 2, 3]),  # whole numbers are held
        (BYTES, np.array([True, False, True]), [1, 0, 1]),
        (gym.spaces.Box(-1, 1, (2,), np.float32), np.array([0.1, 0.2]), [np.float32(0.1), np.float32(0.2)]),
        (gym.spaces.Box(-9, 9, (2,), np.float32), np.array([3, -4]), [3, -4]),
        (gym.spaces.Box(-1, 1, (), np.float32), 0.5, [0.5]),
        (gym.spaces.Discrete(3), 2, [0, 0, 1]),
        (gym.spaces.Discrete(2, start=5), np.int64(5), [1, 0]),
    ],
)
def test_what_a_space_can_hold_is_kept(space, obs, stored):
    seen = Observations(space)
    x = np.zeros(seen.space.shape, seen.space.dtype)
    x[:] = seen(obs)
    assert x.tolist() == stored


@pytest.mark.parametrize(
    ("space", "obs", "says"),
    [
        (BYTES, np.float32([0.0, 0.5, 1.0]), "an observation of float32 in a space of uint8, which cannot hold 0.5"),
        (BYTES, np.array([0, 256, 1]), "of int64 in a space of uint8, which cannot hold 256"),
        (BYTES, np.array([0, -1, 1]), "which cannot hold -1"),
        (BYTES, np.array([0, np.nan, 1]), "which cannot hold nan"),
        (BYTES, np.array(["a", "b", "c"]), "in a space of uint8, which cannot hold it"),
        (gym.spaces.Box(-9, 9, (1,), np.int8), np.array([1000]), "which cannot hold 1000"),
        (gym.spaces.Dict(a=BYTES, b=gym.spaces.Discrete(2)), {"a": np.float32([0.5] * 3), "b": 1}, "cannot hold 0.5"),
        (gym.spaces.Tuple([BYTES, BYTES]), (np.zeros(3), np.float32([0.5] * 3)), "cannot hold 0.5"),
        (BYTES, np.zeros(4, np.uint8), r"shape \(4,\) in a space of shape \(3,\)"),
        (gym.spaces.Box(0, 1, (8, 8, 3)), np.full((8, 8, 3), 255.0), "a picture of 255 to 255 in a space of 0 to 1"),
        (gym.spaces.Box(0, 1, (8, 8, 3), np.uint8), np.full((8, 8, 3), 255), "a picture of 255 to 255 in a space"),
    ],
)
def test_what_it_cannot_hold_is_refused_in_one_sentence(space, obs, says):
    with pytest.raises(ValueError, match=says) as caught:
        Observations(space)(obs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ((96, 96, 3), (3, 96, 96)),
        ((210, 160, 3), (3, 210, 160)),
        ((10, 10, 10), (10, 10, 10)),
        ((4, 84, 84), (4, 84, 84)),
        ((3, 210, 160), (3, 210, 160)),
        ((10, 10, 12), (12, 10, 10)),  # two equal sides are height and width
        ((12, 10, 10), (12, 10, 10)),
        ((40, 3, 40), (40, 3, 40)),
        ((4, 96, 96, 3), (12, 96, 96)),
        ((4, 3, 96, 96), (12, 96, 96)),
        ((84, 84), (1, 84, 84)),
        ((2, 128), (2, 128)),
    ],
)
def test_pictures_have_their_channels_first(given, shown):
    """Each pixel keeps its place, and each channel of a stack of pictures follows the one before it."""
    seen, x = (
        Observations(gym.spaces.Box(0, 255, given, np.uint8)),
        np.random.default_rng(0).integers(256, size=given, dtype=np.uint8),
    )
    assert seen.space.shape == shown and seen.space.dtype == np.uint8
    expected = x
    if len(given) == 3 and given != shown:
        expected = np.stack([x[..., c] for c in range(given[-1])])
    if len(given) == 4:
        expected = np.concatenate([np.moveaxis(f, -1, 0) if given[-1] == 3 else f for f in x])
    assert np.array_equal(seen(x), expected.reshape(shown))


def test_vectors_and_small_tables_of_floats_stay_as_they_are():
    for shape in ((5,), (2, 3), (5, 2, 2), (2, 3, 4, 5)):
        box = gym.spaces.Box(-1, 1, shape, np.float32)
        assert Observations(box).space is box


class Frames(Count):
    """Shows height, width and channels, as Gymnasium's CarRacing does."""

    observation_space = gym.spaces.Box(0, 255, (40, 44, 3), np.uint8)

    def look(self):
        return np.full((40, 44, 3), (10, 20, 30), np.uint8)


def test_a_network_gets_the_channels_first():
    env = vector(HERE + "Frames", 2, {})
    assert env.reset([0, 1]).shape == (2, 3, 40, 44)
    assert env.reset([0, 1])[1, :, 7, 9].tolist() == [10, 20, 30]
    agent = PPO().build(env.obs_space, env.action_space)
    assert next(p for p in agent.parameters() if p.dim() == 4).shape[1] == 3


class Single(gym.Env):
    """Shows and takes one number each, and pays in arrays."""

    observation_space = gym.spaces.Box(-1, 1, (), np.float32)
    action_space = gym.spaces.Box(-0.5, 0.5, (), np.float32)

    def __init__(self, paid: int = 1) -> None:
        self.paid = paid

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.float32(0.25), {}

    def step(self, action):
        assert action.shape == () and self.action_space.contains(np.asarray(action, np.float32))
        return np.float32(action), np.full(self.paid, 2.5), np.array([False]), np.array([True]), {}


def test_a_single_number_is_a_vector_of_one_on_both_sides():
    spec = RunnerSpec(PPO(width=8), HERE + "Single", 2, seed=0)
    r = EnvRunner(spec)
    fragment = r.play(r.actor.pack(), 0, 3)
    obs, action, reward, _, truncated, last = fragment.steps
    assert obs.shape == (4, 2, 1) and action.shape == (3, 2, 1)
    assert (reward == 2.5).all() and truncated.all()
    assert np.allclose(last.reshape(3, 2, 1), action.clip(-0.5, 0.5))


def test_a_reward_is_one_number():
    assert number(np.array([[1.5]]), "reward") == 1.5
    assert number(2, "reward") == 2
    env = TimedEnv(SequentialEnv([Single(paid=2)]), "mine", "runner 0")
    env.reset([0])
    with pytest.raises(RuntimeError, match=r"a reward of shape \(2,\), where one number is due, at step 0 of runner 0"):
        env.step(np.zeros((1, 1), np.float32))


class Fractions(Team):
    """Its agents declare whole numbers, and show fractions."""

    def observation_space(self, agent):
        return gym.spaces.Box(0, 255, (1 if agent == "a" else 2,), np.uint8)

    def look(self):
        return {a: x + 0.5 for a, x in super().look().items()}


class Arrays(Team):
    """Pays each agent an array of one number."""

    def step(self, actions):
        seen, paid, *rest = super().step(actions)
        return seen, {a: np.array([x]) for a, x in paid.items()}, *rest


def test_several_agents_are_held_to_the_same():
    with pytest.raises(ValueError, match=r"of float32 in a space of uint8, which cannot hold 0\.5"):
        MultiAgent([Fractions()]).reset([0])
    env = MultiAgent([Arrays()])
    env.reset([0])
    assert env.step(np.array([[2, 1]])).reward.tolist() == [[3.0, 2.0]]
