"""Seeds that train together against the same seeds alone."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import dataclass, replace

import gymnasium as gym
import pytest
import torch

from ray_jobs.errors import UsageError
from ray_jobs.recipe.plan import Play
from ray_jobs.rl.algorithms.off_policy.d4pg import D4PG
from ray_jobs.rl.algorithms.off_policy.ddpg import DDPG
from ray_jobs.rl.algorithms.off_policy.dqn import DQN
from ray_jobs.rl.algorithms.off_policy.maddpg import MADDPG
from ray_jobs.rl.algorithms.off_policy.off_pac import OffPAC
from ray_jobs.rl.algorithms.off_policy.sac import SAC
from ray_jobs.rl.algorithms.off_policy.td3 import TD3
from ray_jobs.rl.algorithms.policy_gradient.a2c import A2C
from ray_jobs.rl.algorithms.policy_gradient.acktr import ACKTR
from ray_jobs.rl.algorithms.policy_gradient.impala import IMPALA
from ray_jobs.rl.algorithms.policy_gradient.ppg import PPG
from ray_jobs.rl.algorithms.policy_gradient.ppo import PPO
from ray_jobs.rl.algorithms.policy_gradient.reinforce import REINFORCE
from ray_jobs.rl.algorithms.policy_gradient.trpo import TRPO
from ray_jobs.rl.contract import Alone
from ray_jobs.rl.fast import layers
from ray_jobs.rl.learning.play import play
from ray_jobs.rl.learning.setup import generator, prepare
from ray_jobs.rl.learning.training import Training
from ray_jobs.rl.together.play import check_together, play_together
from ray_jobs.rl.together.seeds import Together
from tests.ray_jobs.rl.scripted import Memory

SEEDS = 4
REPLAYED = {"learning_starts": 64, "batch_size": 32, "width": 16}
CASES = {
    "DQN": (
        DQN(**REPLAYED, train_every=32, updates_per_train=4, double=True, anneal=True, target_every=5),
        "CartPole-v1",
    ),
    "DQN of one target in four updates": (
        DQN(**REPLAYED, train_every=32, updates_per_train=4, target_every=4),
        "CartPole-v1",
    ),
    "DQN of three steps in a ring that is full": (
        DQN(**REPLAYED, train_every=8, updates_per_train=1, n_step=3, buffer_size=200),
        "CartPole-v1",
    ),
    "DDPG": (DDPG(**REPLAYED), "Pendulum-v1"),
    "TD3": (TD3(**REPLAYED), "Pendulum-v1"),
    "D4PG": (D4PG(**REPLAYED, priority=0.0), "Pendulum-v1"),
    "SAC": (SAC(**REPLAYED), "Pendulum-v1"),
    "SAC of discrete actions": (SAC(**REPLAYED), "CartPole-v1"),
    "A2C": (A2C(width=16), "CartPole-v1"),
    "A2C over truncations": (A2C(horizon=70, width=16, shared=True), "Pendulum-v1"),
    "PPO": (PPO(horizon=32, width=16), "CartPole-v1"),
    "PPO over truncations": (
        PPO(horizon=70, width=16, shared=True, value_clip=0.2, entropy_weight=0.01, anneal=True),
        "Pendulum-v1",
    ),
    "IMPALA": (IMPALA(width=16), "CartPole-v1"),
    "Off-PAC": (OffPAC(width=16), "CartPole-v1"),
    "MADDPG of one agent": (MADDPG(**REPLAYED), "Pendulum-v1"),
    "REINFORCE": (REINFORCE(horizon=30, tail=20, width=16), "CartPole-v1"),
}


class Nowhere:
    """A recorder that keeps what it hears."""

    def __init__(self) -> None:
        self.logged: list[tuple[int, dict]] = []
        self.saved: list[dict] = []

    def log(self, step, metrics) -> None:
        self.logged.append((step, dict(metrics)))

    def save(self, step, state) -> None:
        self.saved.append(state)


def training(recipe: Play, seed: int) -> Training:
    return prepare(recipe, seed, Alone(generator(seed, 0)), 0, Nowhere(), lambda event: None, lambda: False, "cpu")


def numbers(t: Training) -> torch.Tensor:
    """All that was learned, and the optimisers' moments."""
    moments = [x for o in t.learner.optimizers.values() for x in o.state_dict()["state"][0].values()]
    return torch.cat([x.detach().double().flatten() for x in [*t.learner.actor.state_dict().values(), *moments]])


def rounds(recipe: Play, at_least: int = 300) -> int:
    plan = recipe.algorithm.experience
    return max(
        4, at_least // (recipe.envs * getattr(plan, "horizon", max(1, getattr(plan, "every", 1) // recipe.envs)))
    )


# ---- the same as alone


@pytest.mark.parametrize(("normalize_obs", "cached"), [(False, layers.CACHED), (True, layers.CACHED), (False, 1024)])
@pytest.mark.parametrize("case", CASES)
def test_a_seed_learns_together_what_it_learns_alone(case: str, normalize_obs: bool, cached: int, monkeypatch) -> None:
    """Also where a processor's cache holds the numbers of a few seeds, or of less than one."""
    monkeypatch.setattr(layers, "CACHED", cached)
    algorithm, env = CASES[case]
    recipe = Play(algorithm, env, steps=1200, envs=4, normalize_obs=normalize_obs)
    alone, group = [training(recipe, s) for s in range(SEEDS)], Together([training(recipe, s) for s in range(SEEDS)])
    for _ in range(rounds(recipe)):
        for t in alone:
            t.round()
        group.round()
    group.write_back()
    for a, b in zip(alone, group.trainings, strict=True):
        assert a.stats and a.counters.steps == b.counters.steps and a.learner.version == b.learner.version
        torch.testing.assert_close(numbers(b), numbers(a), rtol=1e-4, atol=1e-5)
        for k, x in a.stats.items():
            assert float(b.stats[k]) == pytest.approx(float(x), rel=1e-3, abs=1e-5), k
        assert torch.equal(a.world.rng.get_state(), b.world.rng.get_state())
        assert torch.equal(a.pool.runners[0].rng.get_state(), b.pool.runners[0].rng.get_state())
        assert (
            a.counters.returns == pytest.approx(b.counters.returns, rel=1e-4)
            and a.counters.lengths == b.counters.lengths
        )
    assert len({round(float(numbers(t).sum()), 6) for t in alone}) == SEEDS


def test_no_seed_feels_what_another_sees() -> None:
    recipe = Play(CASES["SAC"][0], "Pendulum-v1", steps=1000, envs=4)
    one_way, another = (Together([training(recipe, s) for s in range(3)]) for _ in range(2))
    another.runners[1].so_far += 5.0
    another.runners[1].env.reset([99] * 4)  # other episodes, to begin with
    another.runners[1].obs[:] = 0.3
    for _ in range(25):
        one_way.round()
        another.round()
    one_way.write_back()
    another.write_back()
    same = [torch.equal(numbers(a), numbers(b)) for a, b in zip(one_way.trainings, another.trainings, strict=True)]
    assert same == [True, False, True]


def test_a_seed_whose_numbers_overflow_spoils_no_other() -> None:
    recipe = Play(CASES["DQN"][0], "CartPole-v1", steps=400, envs=4, eval_episodes=2, log_every=100)
    group = Together([training(recipe, s) for s in range(3)])
    for x in group.module.all.values():
        x.detach()[1] = float("nan")
    done, failed = {}, {}
    assert not group.go(
        lambda t, m: done.update({t.seed: m}), lambda t, e: failed.update({t.seed: str(e)}), lambda: False
    )
    assert list(failed) == [1] and "td_loss became nan" in failed[1]
    alone = play(recipe, seed=2, run=Nowhere())
    assert sorted(done) == [0, 2] and done[2]["episode_return"] == pytest.approx(alone["episode_return"])


def test_seeds_leave_at_their_goal_and_the_rest_continue() -> None:
    recipe = Play(A2C(lr=3e-3, width=16), "CartPole-v1", steps=8000, envs=8, stop_return=24.0, eval_episodes=2)
    done: dict[int, dict] = {}
    runs = [Nowhere() for _ in range(3)]
    stopped = play_together(
        recipe, [0, 1, 2], runs, states=[None] * 3, done=done.__setitem__, failed=lambda i, e: pytest.fail(str(e))
    )
    alone = [play(recipe, seed=s, run=Nowhere()) for s in range(3)]
    assert not stopped and [done[s]["env_steps"] for s in range(3)] == [a["env_steps"] for a in alone]
    assert len({a["env_steps"] for a in alone}) > 1  # else nobody left before another
    for s in range(3):
        assert ("seconds_to_return" in done[s]) == ("seconds_to_return" in alone[s])
        assert done[s]["train_return"] == pytest.approx(alone[s]["train_return"], rel=1e-4)
        assert done[s]["episode_return"] == pytest.approx(alone[s]["episode_return"], rel=1e-3)


@pytest.mark.parametrize("case", ["DQN", "TD3", "PPO"])
def test_checkpoints_are_those_of_a_seed_alone_and_continue_either_way(case: str) -> None:
    algorithm, env = CASES[case]
    recipe = Play(algorithm, env, steps=512, envs=4, eval_episodes=2, save_every=10**9, log_every=128)
    whole = [training(recipe, s) for s in (5, 6)]
    for t in whole:
        t.go()
    half: list[Nowhere] = [Nowhere(), Nowhere()]
    looks = iter([False, True])
    args = {"done": lambda i, m: None, "failed": lambda i, e: pytest.fail(str(e))}
    assert play_together(recipe, [5, 6], half, states=[None, None], should_stop=lambda: next(looks), **args)
    states = [run.saved[-1] for run in half]
    assert 0 < states[0]["step"] == states[1]["step"] < 512
    single = training(recipe, 5)
    single.go(states[0])
    torch.testing.assert_close(numbers(single), numbers(whole[0]), rtol=1e-4, atol=1e-5)
    again = [Nowhere(), Nowhere()]
    assert not play_together(recipe, [5, 6], again, states=states, **args)
    for run, t in zip(again, whole, strict=True):
        restored = training(recipe, t.seed)
        restored.load(run.saved[-1])
        torch.testing.assert_close(numbers(restored), numbers(t), rtol=1e-4, atol=1e-5)


def test_returns_of_several_steps_do_not_reach_over_a_restart() -> None:
    """Environments that cannot be saved begin new episodes when a seed continues, together as alone."""
    dqn = DQN(**REPLAYED, train_every=8, updates_per_train=1, n_step=3)
    plan = Play(dqn, "tests.ray_jobs.rl.scripted:Unpicklable", 72, envs=2, eval_episodes=2, save_every=72, log_every=72)
    begun, alone, together = Memory(), Memory(), Memory()
    play(plan, seed=3, run=begun)
    state, plan = begun.states[-1][1], replace(plan, steps=144)
    play(plan, seed=3, run=alone, resume=copy.deepcopy(state))
    events: list = []
    calls = {"done": lambda i, m: None, "failed": lambda i, e: None, "report": lambda i, e: events.append((i, e))}
    play_together(plan, [3], [together], states=[state], **calls)
    assert [(i, "begin new episodes" in e["note"]) for i, e in events if "note" in e] == [(0, True)]
    cuts = [m.states[-1][1]["learners"][0]["learner"]["buffer"]["data"]["truncated"] for m in (begun, alone, together)]
    assert not cuts[0][-1].all() and cuts[1][35].all()
    assert torch.equal(cuts[1], cuts[2])


def test_seeds_at_different_steps_are_trained_all_the_same() -> None:
    recipe = Play(CASES["DQN"][0], "CartPole-v1", steps=256, envs=4, eval_episodes=2)
    looks, ahead = iter([False, True]), Nowhere()
    done: dict[int, dict] = {}
    args = {"done": done.__setitem__, "failed": lambda i, e: pytest.fail(str(e))}
    play_together(recipe, [0], [ahead], states=[None], should_stop=lambda: next(looks), **args)
    play_together(recipe, [0, 1], [Nowhere(), Nowhere()], states=[ahead.saved[-1], None], **args)
    for s in (0, 1):
        assert done[s]["episode_return"] == pytest.approx(play(recipe, seed=s, run=Nowhere())["episode_return"])


def test_seeds_together_do_without_sympy() -> None:
    """Torch imports it, for half a second, when it is told a gradient for each of several losses."""
    code = """
import sys
from ray_jobs.recipe.plan import Play
from ray_jobs.rl.algorithms.policy_gradient.a2c import A2C
from ray_jobs.rl.together.play import play_together

class Nowhere:
    def log(self, step, metrics): ...
    def save(self, step, state): ...

recipe, done = Play(A2C(width=4), "CartPole-v1", steps=40, envs=4, eval_episodes=1), []
play_together(recipe, [0, 1], [Nowhere(), Nowhere()], states=[None] * 2, done=lambda i, m: done.append(i), failed=print)
assert done == [0, 1] and "sympy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


# ---- what is refused


@dataclass(frozen=True)
class Looks(A2C):
    """Branches on a value of its own, and says so."""

    not_together = "it branches on numbers that differ between seeds"

    def update(self, agent, optimizers, data, world):
        log = super().update(agent, optimizers, data, world)
        return log if log["entropy"] > 1e9 else dict(log)


@dataclass(frozen=True)
class Silent(Looks):
    """The same, without a reason."""

    not_together = ""


@pytest.mark.parametrize(
    ("algorithm", "env", "why"),
    [
        (TRPO(horizon=16), "CartPole-v1", ""),
        (PPO(horizon=16, target_kl=0.01), "CartPole-v1", "numbers that differ between seeds"),
        (PPO(horizon=16, penalty_kl=0.01), "CartPole-v1", ""),
        (Looks(), "CartPole-v1", "numbers that differ between seeds"),
        (Silent(), "CartPole-v1", "a trial with two seeds failed"),
        (ACKTR(horizon=16), "CartPole-v1", ""),
        (PPG(horizon=16), "CartPole-v1", "neither from fresh steps"),
        (DQN(priority=0.6), "CartPole-v1", "neither from fresh steps"),
        (A2C(), "tests.ray_jobs.rl.together.test_together:pixels", "shows images"),
    ],
)
def test_what_cannot_be_stacked_is_refused_in_a_sentence(algorithm, env: str, why: str) -> None:
    with pytest.raises(
        UsageError, match=f"{type(algorithm).__name__} cannot train seeds together here: .*{why}"
    ) as said:
        check_together(Play(algorithm, env, steps=100, envs=2))
    assert "\n" not in str(said.value) and "PPO, DQN, DDPG, TD3, SAC" in str(said.value)


def test_replay_buffers_too_large_for_the_memory_are_told_in_a_sentence() -> None:
    recipe = Play(DQN(10**12), "CartPole-v1", steps=100, envs=2)
    with pytest.raises(
        UsageError, match=r"^To replay 3,000,000,000,000 steps takes 144,000 GB, .* smaller buffer_size\.$"
    ):
        play_together(recipe, range(3), [Nowhere() for _ in range(3)], states=[None] * 3, done=print, failed=print)


def pixels():
    import numpy as np

    class Pixels(gym.Env):
        observation_space = gym.spaces.Box(0, 255, (3, 8, 8), np.uint8)
        action_space = gym.spaces.Discrete(2)

    return Pixels()


@pytest.mark.parametrize("case", CASES)
def test_what_can_be_stacked_is_let_pass(case: str) -> None:
    algorithm, env = CASES[case]
    check_together(Play(algorithm, env, steps=100, envs=4))
    with pytest.raises(UsageError, match="rewards are normalised"):
        check_together(replace(Play(algorithm, env, steps=100, envs=4), normalize_reward=True))
