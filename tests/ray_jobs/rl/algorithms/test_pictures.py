"""Pictures of any type go through convolutions, whichever algorithm learns from them; or a sentence says who takes them."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from ray_jobs.errors import UsageError
from ray_jobs.recipe.plan import Play
from ray_jobs.rl.algorithms.off_policy.acer_continuous import ACERContinuous
from ray_jobs.rl.algorithms.off_policy.d4pg import D4PG
from ray_jobs.rl.algorithms.off_policy.ddpg import DDPG
from ray_jobs.rl.algorithms.off_policy.dpg import DPG
from ray_jobs.rl.algorithms.off_policy.dqn import DQN
from ray_jobs.rl.algorithms.off_policy.sac import SAC
from ray_jobs.rl.algorithms.off_policy.td3 import TD3
from ray_jobs.rl.algorithms.policy_gradient.a2c import A2C
from ray_jobs.rl.algorithms.policy_gradient.ppo import PPO
from ray_jobs.rl.learning import play, setup
from ray_jobs.rl.networks.nets import brightest, image
from ray_jobs.train.agents import check_spaces
from tests.ray_jobs.rl.scripted import Memory

REPLAYED = {"learning_starts": 8, "train_every": 8, "batch_size": 4, "width": 8, "buffer_size": 64}
BOX, BUTTONS = gym.spaces.Box(-1, 1, (2,), np.float32), gym.spaces.Discrete(3)
SPACES = {
    "bytes": gym.spaces.Box(0, 255, (12, 12, 3), np.uint8),
    "floats": gym.spaces.Box(0, 1, (12, 12, 3), np.float32),
    "doubles": gym.spaces.Box(-1, 1, (3, 12, 12), np.float64),
    "floats without bounds": gym.spaces.Box(-np.inf, np.inf, (3, 12, 12), np.float32),
}
CASES = {
    "SAC": (SAC(**REPLAYED), "box"),
    "SAC of discrete actions": (SAC(**REPLAYED), "buttons"),
    "TD3": (TD3(**REPLAYED), "box"),
    "DDPG": (DDPG(**REPLAYED), "box"),
    "D4PG": (D4PG(**REPLAYED, asynchronous=False, low=-1.0, high=10.0), "box"),
    "DQN": (DQN(**REPLAYED, updates_per_train=1), "buttons"),
    "PPO": (PPO(horizon=8, width=8), "box"),
    "A2C": (A2C(horizon=8, width=8), "buttons"),
}


class Pictures(gym.Env):
    """Shows noise, and pays 1 for each step; an episode has 5."""

    def __init__(self, shows: str, takes: str) -> None:
        self.observation_space, self.action_space = SPACES[shows], {"box": BOX, "buttons": BUTTONS}[takes]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.look(), {}

    def look(self):
        space = self.observation_space
        top = 256 if space.dtype == np.uint8 else 1
        return (self.np_random.random(space.shape) * top).astype(space.dtype)

    def step(self, action):
        self.t += 1
        return self.look(), 1.0, self.t == 5, False, {}


@pytest.mark.parametrize("shows", SPACES)
@pytest.mark.parametrize("case", CASES)
def test_every_convolution_takes_three_channels_and_learns(case, shows):
    algorithm, takes = CASES[case]
    options = {"shows": shows, "takes": takes}
    memory = Memory()
    plan = Play(algorithm, f"{__name__}:Pictures", 32, envs=2, eval_episodes=2, env_options=options)
    assert play.play(plan, seed=0, run=memory)["episode_return"] == 5
    begun, now = setup.untrained(plan, 0), memory.states[-1][1]["learners"][0]["learner"]["actor"]
    first = {k: m for k, m in begun.named_modules() if isinstance(m, nn.Conv2d)}
    assert first and {m.in_channels for m in first.values()} == {3}
    learns = [k for k in first if "target" not in k and "slow" not in k]
    assert all(not torch.equal(now[f"{k}.weight"], first[k].weight) for k in learns)
    assert all(torch.isfinite(x).all() for x in now.values())


@pytest.mark.parametrize("algorithm", [DPG(), ACERContinuous()], ids=lambda a: type(a).__name__)
def test_who_takes_only_vectors_says_so_and_names_those_who_take_pictures(algorithm):
    options = {"shows": "bytes", "takes": "box"}
    plan = Play(algorithm, f"{__name__}:Pictures", 32, env_options=options)
    with pytest.raises(UsageError, match=r"learns from vectors, and observations of shape \(3, 12, 12\)") as caught:
        check_spaces(plan)
    named = str(caught.value).partition("can learn on")[2]
    able = {name.strip(" .") for name in named.rpartition(":")[2].split(",")}
    assert {"sac", "td3", "ddpg", "d4pg", "ppo"} <= able
    assert not able & {"dpg", "dqn", "acer", "acer_continuous", "qac"}


def test_where_no_algorithm_fits_none_is_advised():
    plan = Play(DQN(), f"{__name__}:Strange", 32)
    with pytest.raises(UsageError, match=r"^DQN needs a Discrete .* Algorithms that can learn on .*Strange: none\.$"):
        check_spaces(plan)


class Strange(Pictures):
    """Takes words."""

    def __init__(self) -> None:
        super().__init__("bytes", "box")
        self.action_space = gym.spaces.Text(3)


class Memories(Pictures):
    """Shows a vector of bytes, as Atari's RAM is."""

    def __init__(self) -> None:
        super().__init__("bytes", "buttons")
        self.observation_space = gym.spaces.Box(0, 255, (8,), np.uint8)


@pytest.mark.parametrize("algorithm", [DQN(**REPLAYED, updates_per_train=1), SAC(**REPLAYED), PPO(horizon=8, width=8)])
def test_vectors_of_bytes_are_learned_from(algorithm):
    plan = Play(algorithm, f"{__name__}:Memories", 32, envs=2, eval_episodes=2)
    assert play.play(plan, seed=0, run=Memory())["episode_return"] == 5


def test_what_is_a_picture_and_how_bright_it_is():
    assert all(image(x) for x in (SPACES["doubles"], SPACES["floats without bounds"]))
    assert not any(image(gym.spaces.Box(-1, 1, s)) for s in ((5,), (4, 4), (3, 2, 2), (2, 3, 4, 4)))
    bright = {name: brightest(space) for name, space in SPACES.items()}
    assert bright == {"bytes": 255, "floats": 1, "doubles": 1, "floats without bounds": 1}
