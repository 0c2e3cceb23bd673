"""Images end to end: from a game's screen to the learner and back, as bytes wherever they are kept."""

import copy
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import pytest
import torch

from ray_jobs.errors import UsageError
from ray_jobs.recipe.plan import Play
from ray_jobs.rl.algorithms.off_policy.dqn import DQN
from ray_jobs.rl.algorithms.policy_gradient.acktr import ACKTR
from ray_jobs.rl.algorithms.policy_gradient.impala import IMPALA
from ray_jobs.rl.algorithms.policy_gradient.ppo import PPO
from ray_jobs.rl.contract import Alone, Replay, Steps, Transitions
from ray_jobs.rl.learning import play, setup
from ray_jobs.rl.rollout.runner import ActingAgent, act
from tests.ray_jobs.rl.scripted import Chance, Memory

ALGORITHMS = {
    "ppo": PPO(horizon=8, epochs=1, minibatches=2),
    "acktr": ACKTR(horizon=8),
    "impala": IMPALA(horizon=8),
    "dqn": DQN(
        learning_starts=16, train_every=16, updates_per_train=1, batch_size=8, buffer_size=64, priority=0.6, n_step=3
    ),
}
every = pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)
SCREEN, BUTTONS = gym.spaces.Box(0, 255, (4, 40, 40), np.uint8), gym.spaces.Discrete(3)
T, B = 4, 3


def screens(*shape):
    return torch.randint(256, (*shape, *SCREEN.shape), dtype=torch.uint8)


def experience(algorithm):
    """A batch of what the algorithm learns from, with bytes to see."""
    if isinstance(algorithm.experience, Replay):
        one = torch.ones(B)
        return Transitions(screens(B), torch.tensor([0, 1, 2]), torch.randn(B), screens(B), 0.9 * one, one, {})
    ended, cut = torch.zeros(T, B, dtype=torch.bool), torch.zeros(T, B, dtype=torch.bool)
    ended[1, 0] = cut[2, 1] = True
    extras = {"logp": torch.full((T, B), -1.1)}
    return Steps(screens(T + 1, B), torch.randint(3, (T, B)), torch.randn(T, B), ended, cut, screens(1), extras)


def as_floats(data):
    return data._replace(**{k: x.float() for k, x in data._asdict().items() if k in ("obs", "next_obs", "last_obs")})


@every
def test_bytes_and_floats_are_learned_from_alike(algorithm, seeded):
    agent, data = algorithm.build(SCREEN, BUTTONS), experience(algorithm)
    begun, learned = copy.deepcopy(agent.state_dict()), []
    for seen in (data, as_floats(data)):
        agent.load_state_dict(begun)
        algorithm.update(agent, algorithm.optimizers(agent), seen, Alone(torch.Generator().manual_seed(0)))
        learned.append(copy.deepcopy(agent.state_dict()))
    assert all(torch.equal(learned[0][k], learned[1][k]) for k in begun)
    assert any(not torch.equal(learned[0][k], begun[k]) for k in begun if begun[k].is_floating_point())


@every
def test_a_runner_acts_by_the_numbers_that_the_learner_sees(algorithm, seeded):
    """The runner hands floats over, the learner bytes."""
    agent, seen = algorithm.build(SCREEN, BUTTONS), screens(50)
    with torch.no_grad():
        played, _ = act(algorithm, ActingAgent(agent, None), seen.numpy(), False, torch.Generator())
        numbers = agent.q(seen) if isinstance(algorithm, DQN) else agent.logits(seen)
    assert np.array_equal(played, numbers.argmax(-1))
    assert len(set(played.tolist())) > 1


@every
def test_pong_is_trained_from_its_screen(algorithm):
    """Three updates of 16 steps; every layer moves, and what is kept to replay is bytes."""
    pytest.importorskip("ale_py")
    memory = Memory()
    plan = Play(
        algorithm,
        "ALE/Pong-v5",
        steps=48,
        envs=2,
        eval_episodes=2,
        env_options={"max_num_frames_per_episode": 64},
        log_every=16,
    )
    result = play.play(plan, seed=0, run=memory)
    assert result["env_steps"] == 48
    assert -21 <= result["episode_return"] <= 21
    state, begun = memory.states[-1][1]["learners"][0]["learner"], setup.untrained(plan, 0).state_dict()
    assert state["version"] == 3
    moved = [k for k in begun if not k.startswith("agent.target") and not torch.equal(begun[k], state["actor"][k])]
    assert {k for k in begun if k.endswith(("weight", "bias")) and "target" not in k} <= set(moved)
    if isinstance(algorithm, DQN):
        kept = state["buffer"]["data"]
        assert kept["obs"].dtype == kept["next_obs"].dtype == torch.uint8
        assert len(set(state["buffer"]["priorities"]["leaves"].tolist())) > 3
        assert all("priority" not in line for _, line in memory.lines)


@dataclass(frozen=True)
class Spy(Chance):
    """Tells the largest reward that it learns from."""

    def update(self, agent, optimizers, data, world):
        return {"largest": data.reward.max()}


def test_returns_are_the_games_while_rewards_to_learn_from_are_clipped():
    """Space Invaders pays 5 to 30 for a hit."""
    pytest.importorskip("ale_py")
    memory, options = Memory(), {"max_num_frames_per_episode": 480}
    plan = Play(
        Spy(horizon=125),
        "ALE/SpaceInvaders-v5",
        steps=500,
        envs=2,
        eval_episodes=2,
        env_options=options,
        log_every=250,
    )
    result = play.play(plan, seed=0, run=memory)
    assert [line["largest"] for _, line in memory.lines] == [1.0, 1.0]
    assert memory.lines[-1][1]["episode_return"] >= 5
    assert result["train_return"] >= 5


class Screen(gym.Env):
    """A screen, to be looked at only."""

    observation_space, action_space = SCREEN, BUTTONS


@every
def test_images_are_not_normalised(algorithm):
    plan = Play(algorithm, f"{__name__}:Screen", steps=8, envs=1, normalize_obs=True)
    with pytest.raises(UsageError, match=r"shape \(4, 40, 40\) are images.*leave normalize_obs out") as caught:
        play.play(plan, seed=0, run=Memory())
    assert len(str(caught.value).splitlines()) == 1
