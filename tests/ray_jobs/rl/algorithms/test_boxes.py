"""Actions in a Box of any bounds: what an algorithm learns does not depend on the units in which they are given."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from ray_jobs.recipe.plan import Play
from ray_jobs.rl.algorithms.off_policy.acer_continuous import ACERContinuous
from ray_jobs.rl.algorithms.off_policy.d4pg import D4PG
from ray_jobs.rl.algorithms.off_policy.ddpg import DDPG
from ray_jobs.rl.algorithms.off_policy.off_pac import OffPAC
from ray_jobs.rl.algorithms.off_policy.sac import SAC
from ray_jobs.rl.algorithms.off_policy.td3 import TD3
from ray_jobs.rl.algorithms.policy_gradient.a2c import A2C
from ray_jobs.rl.algorithms.policy_gradient.acktr import ACKTR
from ray_jobs.rl.algorithms.policy_gradient.ppg import PPG
from ray_jobs.rl.algorithms.policy_gradient.ppo import PPO
from ray_jobs.rl.algorithms.policy_gradient.qac import QAC
from ray_jobs.rl.algorithms.policy_gradient.reinforce import REINFORCE
from ray_jobs.rl.algorithms.policy_gradient.svpg import SVPG
from ray_jobs.rl.algorithms.policy_gradient.trpo import TRPO
from ray_jobs.rl.learning import play
from ray_jobs.rl.networks.policies import Gaussian, Units
from tests.ray_jobs.rl.scripted import Memory

REPLAYED = {"learning_starts": 40, "train_every": 8, "width": 16, "batch_size": 16}
ALGORITHMS = [
    A2C(width=16),
    ACERContinuous(learning_starts=40, train_every=80, batch_size=4, width=16),
    ACKTR(width=16),
    D4PG(**REPLAYED, asynchronous=False, low=-5.0, high=0.0),
    DDPG(**REPLAYED),
    OffPAC(width=16, wander=0.5),
    PPG(horizon=8, policy_phases=2, width=16, minibatches=2, aux_minibatches=2),
    PPO(horizon=8, width=16),
    QAC(width=16),
    REINFORCE(horizon=8, tail=4, width=16),
    SAC(**REPLAYED),
    SVPG(particles=2, horizon=8, width=16),
    TD3(**REPLAYED),
    TRPO(horizon=8, width=16),
]


class Aim(gym.Env):
    """Episodes of one step, paid by minus the square of the distance to a place, in half-widths of the Box."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, low: float, high: float, where: float = 0.75) -> None:
        self.action_space = gym.spaces.Box(low, high, (1,), np.float32)
        self.half, self.target = (high - low) / 2, low + where * (high - low)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), -(((action.item() - self.target) / self.half) ** 2), True, False, {}


def trained(algorithm, low: float, high: float, steps: int) -> float:
    """The return of the greedy policy after some steps."""
    options = {"low": low, "high": high}
    plan = Play(algorithm, f"{__name__}:Aim", steps, envs=4, eval_episodes=1, env_options=options)
    return play.play(plan, seed=0, run=Memory())["episode_return"]


@pytest.mark.parametrize(("low", "high"), [(10.0, 30.0), (0.0, 1000.0), (-0.01, 0.01)])
def test_ppo_finds_a_place_in_any_box(low, high):
    """A policy that stayed at 0, or at a bound, would have less than -0.2."""
    assert trained(PPO(horizon=32, lr=3e-3), low, high, 4000) > -0.01


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: type(a).__name__)
def test_the_units_of_actions_do_not_matter(algorithm):
    """[10, 30] is [-1, 1] in other units, where every algorithm learns the same up to rounding."""
    assert trained(algorithm, 10.0, 30.0, 320) == pytest.approx(trained(algorithm, -1.0, 1.0, 320), abs=2e-3)


@pytest.mark.parametrize(
    ("low", "high", "inside", "outside"),
    [
        (-1.0, 1.0, 0.5, 0.5),
        (-2.0, 2.0, 0.5, 0.5),  # a standard normal fits it as it is
        (-0.5, 0.5, 0.5, 0.5),
        (-4.0, 4.0, 0.5, 2.0),
        (0.0, 1.0, 0.5, 0.75),
        (10.0, 30.0, -1.0, 10.0),
        (-np.inf, np.inf, 3.0, 3.0),
        (0.0, np.inf, 3.0, 3.0),
        (5.0, 5.0, 3.0, 3.0),
    ],
)
def test_a_box_keeps_its_own_units_where_it_has_no_bounds_or_a_standard_normal_fits(low, high, inside, outside):
    units = Units(gym.spaces.Box(np.float32([low]), np.float32([high])))
    assert units(torch.tensor([inside])).item() == outside
    assert units.inverse(torch.tensor([outside])).item() == inside
    assert units.trivial == (inside == outside)


def test_a_gaussian_in_a_box_is_a_normal_around_its_place(seeded):
    box = gym.spaces.Box(np.float32([10.0, -1.0, -np.inf]), np.float32([30.0, 1.0, np.inf]))
    policy, out = Gaussian((3,), -0.5, box), torch.tensor([[0.3, 0.3, 0.3]])
    normal = torch.distributions.Normal(torch.tensor([23.0, 0.3, 0.3]), torch.tensor([10.0, 1.0, 1.0]) * np.exp(-0.5))
    action = policy.sample(out.expand(50, 3), torch.Generator().manual_seed(0))
    torch.testing.assert_close(policy.mode(out)[0], normal.mean)
    torch.testing.assert_close(policy.log_prob(out.expand(50, 3), action), normal.log_prob(action).sum(-1))
    torch.testing.assert_close(policy.entropy(out)[0], normal.entropy().sum())
    torch.testing.assert_close(action.mean(0), normal.mean, atol=4.0, rtol=1.0)
