"""Worlds of several agents: the parallel environments themselves say what every number must be."""

import importlib

import gymnasium as gym
import numpy as np
import pytest
import torch

from ray_jobs.envs.multi_agent import MultiAgent, Padded, joint
from ray_jobs.envs.vector import vector
from ray_jobs.rl.contract import Replay
from ray_jobs.rl.learning.counters import Counters
from ray_jobs.rl.replay.buffer import ReplayBuffer
from ray_jobs.rl.replay.ring import successors
from ray_jobs.rl.rollout.fragments import tensors
from ray_jobs.rl.rollout.normalise import RewardScale
from ray_jobs.rl.rollout.runner import EnvRunner, RunnerSpec, evaluate
from tests.ray_jobs.rl.scripted import Chance

TEAMS = "tests.ray_jobs.rl.scripted_teams:"
SPREAD, ADVERSARY = "mpe2.simple_spread_v3:parallel_env", "mpe2.simple_adversary_v3:parallel_env"


def draw(space: gym.Space, n: int, rng: np.random.Generator) -> np.ndarray:
    if isinstance(space, gym.spaces.MultiDiscrete):
        return rng.integers(0, space.nvec, (n, len(space.nvec)))
    return rng.uniform(space.low, space.high, (n, *space.shape)).astype(np.float32)


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize(("env", "sizes"), [(SPREAD, (18, 18, 18)), (ADVERSARY, (8, 10, 10))])
def test_every_number_is_the_parallel_environments(env, sizes, continuous):
    """Two worlds against the same two stepped by hand, over three episodes of 6 steps."""
    pytest.importorskip("mpe2")
    options, rng = {"max_cycles": 6, "continuous_actions": continuous}, np.random.default_rng(0)
    fast = vector(env, 2, options)
    make = importlib.import_module(env.split(":")[0]).parallel_env
    slow = [make(**options) for _ in range(2)]
    agents = slow[0].possible_agents
    assert isinstance(fast, MultiAgent)
    assert fast.obs_space.sizes == sizes
    assert fast.obs_space.shape == (3, max(sizes))
    assert fast.action_space.shape == ((3, 5) if continuous else (3,))

    def same(obs, i, seen):
        for k, agent in enumerate(agents):
            assert np.array_equal(obs[i, k, : sizes[k]], seen[agent])
            assert not obs[i, k, sizes[k] :].any()

    obs = fast.reset([4, 5])
    for i, one in enumerate(slow):
        same(obs, i, one.reset(seed=4 + i)[0])
    for t in range(18):
        action = draw(fast.action_space, 2, rng)
        assert fast.action_space.contains(action[0])
        moved = fast.step(action)
        assert moved.reward.shape == (2, 3)
        for i, one in enumerate(slow):
            seen, paid, *_ = one.step(
                {a: action[i, k] if continuous else int(action[i, k]) for k, a in enumerate(agents)}
            )
            same(moved.obs, i, seen)
            assert moved.reward[i].tolist() == [paid[a] for a in agents]
        assert moved.truncated.all() == moved.truncated.any() == (t % 6 == 5)
        assert not moved.terminated.any()
        if moved.boundary.any():
            obs = fast.restart(moved.boundary)
            for i, one in enumerate(slow):
                same(obs, i, one.reset()[0])


def test_restarting_one_world_leaves_the_other():
    env = vector(TEAMS + "Team", 2, {})
    env.reset([0, 1])
    for _ in range(4):
        moved = env.step(np.zeros((2, 2), int))
    obs = env.restart(np.array([True, False]))
    assert obs[0].tolist() == [[0, 0], [10, 0]]
    assert np.array_equal(obs[1], moved.obs[1])


@pytest.mark.parametrize("ends", ["cut", "terminated"])
def test_an_agent_that_is_done_first_observes_and_earns_nothing(ends):
    """'a' is done after 2 of 4 steps. The environment itself asserts that it gets no action afterwards."""
    env = vector(TEAMS + "Team", 1, {"ends": ends})
    assert env.reset([0]).tolist() == [[[0, 0], [10, 0]]]
    moves = [env.step(np.array([[2, 1]])) for _ in range(4)]
    assert [m.obs[0].tolist() for m in moves] == [
        [[1, 0], [10, 1]],
        [[2, 0], [10, 2]],
        [[0, 0], [10, 3]],
        [[0, 0], [10, 4]],
    ]
    assert [m.reward[0].tolist() for m in moves] == [[3, 2], [3, 2], [0, 2], [0, 2]]
    assert [m.terminated[0] for m in moves] == [False] * 3 + [ends == "terminated"]
    assert [m.truncated[0] for m in moves] == [False] * 3 + [ends == "cut"]


def test_fragments_learners_and_buffers_take_a_reward_for_each_agent():
    T, B = 9, 2
    r = EnvRunner(RunnerSpec(Chance(), TEAMS + "Team", B, seed=0))
    fragment = r.sample(r.actor.pack(), 0, T)
    data = tensors([fragment, fragment], torch.device("cpu"))
    assert data.obs.shape == (T + 1, 2 * B, 2, 2)
    assert data.action.shape == data.reward.shape == (T, 2 * B, 2)
    assert data.action.dtype == torch.int64
    assert data.terminated.shape == (T, 2 * B)
    assert data.last_obs.tolist() == [[[0, 0], [10, 4]]] * 8
    team = data.reward.sum(-1)
    assert fragment.returns == [team[start : start + 4, b].sum() for start in (0, 4) for b in range(B)]
    assert fragment.lengths == [4] * 4
    assert torch.equal(successors(data)[..., 1, 1], data.obs[:-1, ..., 1, 1] + 1)
    buffer = ReplayBuffer(Replay(20, 5, 0, n_step=2), 2 * B, 0.5)
    buffer.add(data)
    assert buffer.sample(torch.Generator().manual_seed(0)).reward.shape == (5, 2)
    ledger = Counters()
    ledger.add([fragment], 1)
    assert ledger.steps == T * B


def test_the_reward_scale_forgets_every_agents_return_at_an_end():
    """As many agents as environments: a boundary that is not lined up with its environment goes unnoticed by shapes."""
    reward, boundary = (
        torch.rand(5, 2, 2, generator=torch.Generator().manual_seed(0)),
        torch.zeros(5, 2, dtype=torch.bool),
    )
    boundary[2, 0] = True
    out = RewardScale(0.9).returns("0", reward, boundary)
    for b in range(2):
        for n in range(2):
            alone = RewardScale(0.9).returns("0", reward[:, b, n, None], boundary[:, b, None])
            assert torch.equal(out[:, b, n, None], alone)


def test_evaluation_reports_the_teams_return():
    """Two agents are paid 1 to 3 and 1 or 2 for 2 and 4 steps."""
    spec = RunnerSpec(Chance(), TEAMS + "Team", 2, seed=0)
    returns = evaluate(spec, EnvRunner(spec).actor, 40)
    assert returns.shape == (40,)
    assert returns.min() >= 6
    assert returns.max() <= 14
    assert abs(returns.mean() - 10) < 5 * (2 * 2 / 3 + 4 / 4) ** 0.5 / 40**0.5  # 5 deviations of the mean: P < 1e-6


@pytest.mark.parametrize("env", [SPREAD, ADVERSARY])
def test_a_runner_plays_real_worlds(env):
    pytest.importorskip("mpe2")
    r = EnvRunner(RunnerSpec(Chance(), env, 3, seed=0))
    fragment = r.sample(r.actor.pack(), 0, 60)
    assert fragment.steps[2].shape == (60, 3, 3)
    assert fragment.lengths == [25] * 6
    first = fragment.steps[2][:25].sum((0, 2))
    np.testing.assert_allclose(fragment.returns[:3], first, rtol=1e-5)


def test_a_world_continues_from_its_state_or_starts_again():
    """A scripted one can be saved; those of mpe2 pickle no more than their arguments, which is not enough."""
    pytest.importorskip("mpe2")
    first, second = (vector(TEAMS + "Team", 2, {}) for _ in range(2))
    first.reset([0, 1])
    first.step(np.zeros((2, 2), int))
    second.load(first.state())
    assert np.array_equal(first.step(np.ones((2, 2), int)).obs, second.step(np.ones((2, 2), int)).obs)
    spread = vector(SPREAD, 1, {})
    spread.reset([0])
    assert spread.state() is None


def test_one_agents_reward_that_is_not_finite_is_noticed():
    r = EnvRunner(RunnerSpec(Chance(), TEAMS + "Poor", 2, seed=0))
    with pytest.raises(FloatingPointError, match="Poor gave a reward that is not finite, at step 2 of runner 0"):
        r.sample(r.actor.pack(), 0, 8)


def test_a_padded_space_knows_whose_numbers_count():
    space = Padded([gym.spaces.Box(0, 1, (2,)), gym.spaces.Box(-3, 3, (2, 2))])
    assert space.sizes == (2, 4)
    assert space.low.tolist() == [[0, 0, -1, -1], [-3] * 4]
    assert space.high.tolist() == [[1, 1, 1, 1], [3] * 4]
    assert space.contains(np.zeros((2, 4), np.float32))


@pytest.mark.parametrize(
    ("spaces", "says"),
    [
        ([gym.spaces.Discrete(2), gym.spaces.Box(0, 1, (2,))], "all Discrete"),
        ([gym.spaces.Discrete(2, start=1)], "from 0"),
    ],
)
def test_agents_with_other_actions_are_refused(spaces, says):
    with pytest.raises(ValueError, match=says):
        joint(spaces)


@pytest.mark.parametrize(
    ("env", "says"), [("mpe2.simple_spread_v3:env", "take turns"), ("fractions:Fraction", "it must make a Gymnasium")]
)
def test_what_is_no_parallel_environment_is_refused(env, says):
    pytest.importorskip("mpe2")
    with pytest.raises(ValueError, match=says) as caught:
        vector(env, 1, {})
    assert len(str(caught.value).splitlines()) == 1
