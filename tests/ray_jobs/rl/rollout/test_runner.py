"""What a runner hands back: every step once, no reset steps, and the true last observations."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec

from ray_jobs.envs.vector import CartPole, SequentialEnv, vector
from ray_jobs.errors import UsageError
from ray_jobs.recipe.plan import Play
from ray_jobs.rl.algorithms.policy_gradient.ppo import PPO
from ray_jobs.rl.batches import values
from ray_jobs.rl.learning import play
from ray_jobs.rl.learning.setup import runner_specs
from ray_jobs.rl.replay.ring import successors
from ray_jobs.rl.rollout.fragments import tensors
from ray_jobs.rl.rollout.normalise import Moments
from ray_jobs.rl.rollout.runner import ActingAgent, EnvRunner, RunnerSpec, evaluate
from tests.ray_jobs.rl.scripted import Memory, Still

SCRIPTED = "tests.ray_jobs.rl.scripted:"


def runner(env: str = SCRIPTED + "Count", n: int = 1, **more) -> EnvRunner:
    return EnvRunner(RunnerSpec(Still(), env, n, seed=0, **more))


def sample(r: EnvRunner, T: int):
    return r.sample(r.actor.pack(), 0, T)


def test_every_number_of_a_scripted_environment():
    """Episode 0 terminates after 3 steps, episode 1 is cut after 5, episode 2 begins: nine steps, and no step resets."""
    fragment = sample(runner(), 9)
    data = tensors([fragment], torch.device("cpu"))
    episode, t = data.obs[:, 0].T
    assert episode.tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 2, 2]
    assert t.tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 0, 1]
    assert data.reward[:, 0].tolist() == [1, 2, 3, 11, 12, 13, 14, 15, 21]
    assert data.terminated[:, 0].nonzero().flatten().tolist() == [2]
    assert data.truncated[:, 0].nonzero().flatten().tolist() == [7]
    assert data.last_obs.tolist() == [[1, 5]]
    assert fragment.returns == [6, 65]
    assert fragment.lengths == [3, 5]
    assert torch.equal(data.extras["seen"], data.obs[:-1])


def test_the_value_after_a_cut_is_that_of_the_true_last_observation():
    data = tensors([sample(runner(), 9)], torch.device("cpu"))
    v, after = values(lambda obs: 100 * obs[..., 0] + obs[..., 1], data)
    assert v[:, 0].tolist() == [0, 1, 2, 100, 101, 102, 103, 104, 200]
    assert after[[0, 1, 3, 4, 5, 6, 7, 8], 0].tolist() == [
        1,
        2,
        101,
        102,
        103,
        104,
        105,
        201,
    ]  # row 2 ended: it has none


def test_replayed_steps_know_their_true_successors():
    step = tensors([sample(runner(), 9)], torch.device("cpu"))
    followed, after = ~step.terminated, successors(step)
    assert torch.equal(after[followed][:, 1], step.obs[:-1][followed][:, 1] + 1)
    assert torch.equal(after[followed][:, 0], step.obs[:-1][followed][:, 0])


def test_fragments_side_by_side_keep_their_last_observations():
    """Two runners whose cuts interleave in time."""
    one, two = runner(n=2), runner(n=1)
    sample(two, 3)  # the second is out of step with the first
    data = tensors([sample(one, 16), sample(two, 16)], torch.device("cpu"))
    before = data.obs[:-1][data.truncated]
    assert len(before) == len(data.last_obs) == 6
    assert torch.equal(data.last_obs, before + torch.tensor([0.0, 1.0]))


def test_only_what_acts_is_sent():
    """An agent that names its acting part is packed as that, with the numbers to normalise by; another's is all of it."""

    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.actor, self.critic = torch.nn.Linear(2, 3), torch.nn.Linear(2, 1)

    class Part(Whole):
        @property
        def acting(self):
            return self.actor

    assert ActingAgent(Whole(), None).pack().size == 9 + 3
    sender, receiver = ActingAgent(Part(), Moments((2,))), ActingAgent(Part(), Moments((2,)))
    receiver.unpack(sender.pack())
    assert sender.pack().size == 9 + 2 + 2
    assert torch.equal(receiver.agent.actor.weight, sender.agent.actor.weight)
    assert not torch.equal(receiver.agent.critic.weight, sender.agent.critic.weight)


def test_numbers_taken_over_are_copies_and_can_be_differentiated():
    """Twice, the second time in inference mode, as a runner does."""
    sender, receiver = (ActingAgent(torch.nn.Linear(2, 3), Moments((2,))) for _ in range(2))
    receiver.unpack(sender.pack())
    with torch.no_grad():
        sender.agent.weight.fill_(7.0)
    packed = sender.pack()
    with torch.inference_mode():
        receiver.unpack(packed)
    packed[:] = 0.0
    assert (receiver.agent.weight == 7.0).all()
    assert torch.equal(receiver.norm.scale, torch.ones(2))
    receiver.agent(torch.ones(2)).sum().backward()


def test_an_actor_that_was_moved_takes_over_numbers_all_the_same():
    one, two = (ActingAgent(torch.nn.Linear(2, 3), None) for _ in range(2))
    one.unpack(two.pack())
    one.double().float()  # as a move to another device and back: its tensors are others
    one.unpack(np.full(9, 3.0, np.float32))
    assert (one.agent.weight == 3.0).all()
    assert (one.pack() == 3.0).all()


def test_a_lone_fragment_is_not_copied_unless_nothing_may_be_written_to_it():
    """What comes from Ray's store is read-only."""
    mine, stored = sample(runner(), 4), sample(runner(), 4)
    for x in stored.steps:
        x.flags.writeable = False
    free, copied = (tensors([f], torch.device("cpu")) for f in (mine, stored))
    assert free.reward.data_ptr() == mine.steps[2].ctypes.data
    assert copied.reward.data_ptr() != stored.steps[2].ctypes.data
    assert torch.equal(free.obs, copied.obs)


def test_fragments_follow_on_each_other():
    whole, halves = runner(n=2), runner(n=2)
    together = sample(whole, 10)
    first, second = sample(halves, 4), sample(halves, 6)
    assert np.array_equal(first.steps[0][-1], second.steps[0][0])
    assert np.array_equal(np.concatenate([first.steps[2], second.steps[2]]), together.steps[2])
    assert first.returns + second.returns == together.returns


def test_the_vectorised_cart_pole_is_gymnasiums():
    """Same state and actions: the same observations, rewards and ends as the single environment, until each has ended."""
    fast, rng = CartPole(5, max_episode_steps=30), np.random.default_rng(0)
    obs = fast.reset([3])
    slow = [gym.make("CartPole-v1", max_episode_steps=30).unwrapped for _ in range(5)]
    for env, state in zip(slow, fast.env.state.T, strict=True):
        env.reset()
        env.state = state.copy()
    alive = np.ones(5, bool)
    for t in range(30):
        action = rng.integers(0, 2, 5)
        moved = fast.step(action)
        for i in np.flatnonzero(alive):
            obs, reward, terminated, _, _ = slow[i].step(int(action[i]))
            np.testing.assert_allclose(moved.obs[i], obs, rtol=1e-5, atol=1e-6)
            assert moved.reward[i] == reward
            assert moved.terminated[i] == terminated
            assert moved.truncated[i] == (t == 29 and not terminated)
        alive &= ~(moved.terminated | moved.truncated)
    assert not alive.any()


def test_a_cart_pole_alone_is_the_vectorised_one():
    """Few are stepped one after the other, which is quicker; one of them draws the very same starts, and moves the same."""
    one, arrays = vector("CartPole-v1", 1, {}), CartPole(1, max_episode_steps=500)
    assert isinstance(one, SequentialEnv)
    np.testing.assert_array_equal(one.reset([3]), arrays.reset([3]))
    over = 0
    for action in np.random.default_rng(0).integers(0, 2, (500, 1)):
        moved = one.step(action)
        for mine, its in zip(moved, arrays.step(action), strict=True):
            np.testing.assert_array_equal(mine, its)
        if moved.boundary.any():
            over += 1
            np.testing.assert_array_equal(one.restart(moved.boundary), arrays.restart(moved.boundary))
    assert over > 10


def test_restarting_some_rows_leaves_the_others():
    env = CartPole(4)
    env.reset([0])
    for _ in range(8):
        moved = env.step(np.ones(4, int))
    rows = np.array([True, False, False, True])
    obs = env.restart(rows)
    assert np.array_equal(obs[~rows], moved.obs[~rows])
    assert (np.abs(obs[rows]) <= 0.05).all()
    assert env.env.steps.tolist() == [0, 8, 8, 0]


def test_episodes_are_as_long_as_the_environments_say():
    """CartPole-v1 pays 1 per step: a return that differs from its length has counted a reset step, or lost one."""
    r = EnvRunner(RunnerSpec(PPO(width=8), "CartPole-v1", 8, seed=1))
    fragment = sample(r, 200)
    assert len(fragment.returns) > 10
    assert fragment.returns == fragment.lengths
    assert sum(fragment.lengths) + r.length.sum() == 8 * 200


def test_box_actions_are_clipped_for_the_environment_and_kept_for_the_learner():
    r = EnvRunner(RunnerSpec(PPO(width=8), SCRIPTED + "Continuous", 2, seed=0))
    fragment = sample(r, 40)
    action, reward = fragment.steps[1:3]
    assert action.shape == (40, 2, 3)
    assert np.abs(action).max() > 0.5
    assert reward.max() == 0.5


@pytest.mark.parametrize("env", ["CartPole-v1", "Acrobot-v1", SCRIPTED + "Count"])
def test_a_runner_continues_from_its_state_bit_for_bit(env):
    first, second = (EnvRunner(RunnerSpec(PPO(width=8), env, 5, seed=5)) for _ in range(2))
    sample(first, 30)
    assert second.load(first.state())
    a, b = sample(first, 30), sample(second, 30)
    assert all(np.array_equal(x, y) for x, y in zip(a.steps, b.steps, strict=True))
    assert a.returns == b.returns


@pytest.mark.parametrize("name", ["Unpicklable", "Forgetful"])
def test_an_environment_that_cannot_be_saved_starts_again(name):
    env = SCRIPTED + name
    first, second = runner(env), runner(env)
    sample(first, 4)
    assert second.load(first.state()) is False
    assert sample(second, 4).steps[0][0].tolist() == [[1, 0]], "its second reset"


def test_runners_are_a_function_of_seed_and_place():
    def draws(**place):
        return sample(EnvRunner(RunnerSpec(PPO(width=8), "CartPole-v1", 2, **({"seed": 1} | place))), 5).steps[0]

    torch.manual_seed(1)
    here = draws()
    torch.manual_seed(2)
    np.random.seed(7)
    assert np.array_equal(here, draws())
    for other in ({"seed": 2}, {"index": 1}, {"learner": 1}, {"attempt": 1}):
        assert not np.array_equal(here, draws(**other))


def test_environments_have_the_same_seeds_on_any_number_of_runners():
    """Those of one runner are what they were in every version; a replacement has others."""
    plan = Play(Still(), SCRIPTED + "Count", steps=8, envs=8)
    for learner, learners in ((0, 1), (1, 2)):
        whole, halves, quarters = (
            [s for spec in runner_specs(plan, 5, learner, learners, n) for s in spec.generators()[0]]
            for n in (0, 2 * learners, 4 * learners)
        )
        assert whole == halves == quarters and len(set(whole)) == 8 // learners
    (one,) = runner_specs(plan, 5, 0, 1, 0)
    words = np.random.SeedSequence(5, spawn_key=(1, 0, 0)).generate_state(9)
    assert one.generators()[0] == [int(w) & 0x7FFFFFFF for w in words[1:]]
    assert one.generators()[1].initial_seed() == int(words[0])
    assert not set(replace(one, attempt=1).generators()[0]) & set(one.generators()[0])


def test_evaluation_counts_as_many_episodes_of_each_environment():
    """Episodes of 3 and 5 steps alternate: the first 6 to end would be other ones than 3 of each environment."""
    spec = RunnerSpec(Still(), SCRIPTED + "Count", 2, seed=0)
    r = EnvRunner(spec)
    assert evaluate(spec, r.actor, 6).tolist() == [6, 6, 65, 65, 66, 66]


def test_episodes_that_do_not_end_are_cut_and_counted():
    """Where none ends, one of each environment is enough; a limit between 3 and 5 cuts every second episode of the other."""
    cut: list[int] = []
    endless = RunnerSpec(Still(), SCRIPTED + "Endless", 3, seed=0)
    returns = evaluate(endless, EnvRunner(endless).actor, 12, longest=50, on_cut=cut.append)
    assert returns.tolist() == [50, 50, 50] and cut == [3]
    counted = RunnerSpec(Still(), SCRIPTED + "Count", 2, seed=0)
    cut.clear()
    returns = evaluate(counted, EnvRunner(counted).actor, 6, longest=4, on_cut=cut.append)
    assert returns.tolist() == [6, 6, 50, 50, 66, 66] and cut == [2]


def test_the_result_says_that_episodes_were_cut():
    said: list[dict] = []
    plan = Play(Still(), SCRIPTED + "Endless", steps=16, envs=2, eval_episodes=4, eval_steps=30)
    result = play.play(plan, seed=0, run=Memory(), report=said.append)
    assert result["episodes_cut"] == 4 and result["episode_return"] == 30
    notes = [e["note"] for e in said if "note" in e]
    assert notes == [f"Episodes of {SCRIPTED}Endless in the evaluation are cut after 30 steps."]
    counted = Play(Still(), SCRIPTED + "Count", steps=16, envs=2, eval_episodes=4)
    assert "episodes_cut" not in play.play(counted, seed=0, run=Memory())


@pytest.mark.parametrize("learners", [1, 2])
def test_a_stop_is_heard_during_the_evaluation_and_resuming_only_evaluates(learners, tmp_path, monkeypatch, request):
    """Its environment is one that this process alone has registered, of which the learners learn."""
    if learners > 1:
        request.getfixturevalue("ray_cluster")
    monkeypatch.setitem(gym.registry, "Own/Endless-v0", EnvSpec("Own/Endless-v0", entry_point=SCRIPTED + "Endless"))
    mark = tmp_path / "stop"
    options = {"at": 1000, "stop": str(mark)}
    plan = Play(Still(), "Own/Endless-v0", steps=16, envs=2, eval_episodes=2, env_options=options)
    plan = replace(plan, eval_steps=100_000_000)
    memory = Memory()
    stopped = play.play(plan, seed=0, run=memory, learners=learners, should_stop=mark.exists)
    assert "episode_return" not in stopped and stopped["env_steps"] == 16
    step, state = memory.states[-1]
    assert step == 16
    plan = replace(plan, eval_steps=2000)
    resumed = play.play(plan, seed=0, run=memory, learners=learners, resume=state)
    assert resumed["env_steps"] == 16 and resumed["episode_return"] == 2000


@pytest.mark.parametrize(
    ("env", "options", "says"),
    [
        ("CartPool-v1", {}, "CartPole-v1"),
        ("CartPole-v1", {"gravitas": 3}, "gravitas"),
        ("nowhere:Env", {}, "package.module:function"),
        (SCRIPTED + "Nothing", {}, "package.module:function"),
        ("Blackjack-v1", {"nope": 1}, "nope"),
    ],
)
def test_a_wrong_environment_gets_one_sentence(env, options, says):
    with pytest.raises(UsageError, match=says) as caught:
        play.play(Play(PPO(), env, steps=10, env_options=options), seed=0, run=Memory())
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("env", "remedy"),
    [
        ("LunarLander-v3", r"pip install 'reprise\[box2d\]'"),
        ("HalfCheetah-v5", r"pip install 'reprise\[mujoco\]'"),
        ("MountainCar-v0", "Something is not installed"),
    ],
)
def test_a_missing_package_names_the_extra(env, remedy, monkeypatch):
    def lacking(*args, **options):
        raise gym.error.DependencyNotInstalled("Something is not installed")

    monkeypatch.setattr(gym, "make", lacking)
    with pytest.raises(ValueError, match=remedy):
        vector(env, 1, {})


def test_doubles_are_kept_as_single_floats():
    r = runner(SCRIPTED + "Double")
    obs = sample(r, 3).steps[0]
    assert r.env.obs_space == gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    assert obs.dtype == np.float32
    assert obs[1, 0].tolist() == [0, np.float32(1 / 3)]


def test_discrete_observations_become_one_hot():
    env = vector("FrozenLake-v1", 2, {})
    assert isinstance(env, SequentialEnv)
    assert env.reset([0, 1]).sum(1).tolist() == [1, 1]


def test_a_reward_that_is_not_finite_names_environment_and_step():
    with pytest.raises(FloatingPointError, match=r"Broken gave a reward that is not finite, at step 6 of runner 0"):
        sample(runner(SCRIPTED + "Broken"), 9)


@pytest.mark.parametrize(
    ("envs", "runners", "learners"), [(8, 3, 1), (8, 3, 2), (9, 0, 2), (8, -1, 1), (0, 0, 1), (8, 0, 0)]
)
def test_shares_that_do_not_come_out_even_are_refused(envs, runners, learners):
    with pytest.raises(UsageError):
        play.play(
            Play(PPO(), "CartPole-v1", steps=10, envs=envs), seed=0, run=Memory(), runners=runners, learners=learners
        )
