"""Where runners run must not change what they compute; one that dies is replaced, and training continues."""

import dataclasses
import os
import re
import signal

import gymnasium as gym
import pytest
import torch

from ray_jobs.distributed import actor_pool
from ray_jobs.distributed.connection import Lost
from ray_jobs.errors import UsageError
from ray_jobs.recipe.plan import Play
from ray_jobs.rl.algorithms.off_policy.dqn import DQN
from ray_jobs.rl.algorithms.policy_gradient.impala import IMPALA
from ray_jobs.rl.algorithms.policy_gradient.ppo import PPO
from ray_jobs.rl.contract import Alone
from ray_jobs.rl.learning import play, setup
from ray_jobs.rl.rollout import pools
from tests.ray_jobs.rl.scripted import Hasty, Memory, Slope

SMALL = {
    "ppo": PPO(horizon=16, epochs=2, minibatches=2, width=16),
    "dqn": DQN(learning_starts=64, train_every=32, updates_per_train=4, batch_size=16, width=16, buffer_size=300),
}
SCRIPTED = "tests.ray_jobs.rl.scripted:"


def recipe(algorithm, env="CartPole-v1", **more) -> Play:
    return Play(algorithm, env, **({"steps": 512, "envs": 4, "eval_episodes": 2} | more))


def trained(plan: Play, pool, *, seed=3, runners=2):
    """The result and the weights after training with `runners` runners in the given kind of pool."""
    training = setup.prepare(
        plan, seed, Alone(setup.generator(seed, 0)), 0, Memory(), lambda e: None, lambda: False, "cpu"
    )
    training.pool = pool(setup.runner_specs(plan, seed, 0, 1, runners))
    result = training.go()
    result.pop("train_seconds")
    return result, training.learner.actor.pack()


@pytest.mark.parametrize("name", SMALL)
def test_ray_changes_nothing(name, ray_cluster):
    plan = recipe(SMALL[name], normalize_obs=True, normalize_reward=True)
    (here, w_here), (there, w_there) = trained(plan, pools.Local), trained(plan, pools.Remote)
    assert here == there
    assert (w_here == w_there).all()


def test_one_ray_runner_is_the_runner_in_process(ray_cluster):
    plan = recipe(SMALL["ppo"])
    results = [play.play(plan, seed=1, run=Memory(), runners=n) for n in (0, 1)]
    for r in results:
        r.pop("train_seconds")
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "algorithm",
    [
        IMPALA(width=16),
        Slope(horizon=20),
        Hasty(learning_starts=0, train_every=80, updates_per_train=2, batch_size=16, width=16),
    ],
    ids=["stream", "gradients", "replay"],
)
def test_whoever_does_not_wait_reports_the_lag(algorithm, ray_cluster):
    memory = Memory()
    play.play(recipe(algorithm, steps=800, log_every=1), seed=0, run=memory, runners=2)
    lags = [m["policy_lag"] for _, m in memory.lines]
    assert max(lags) >= 1, "a runner plays on while its fragment is learned from"
    assert all(0 <= lag <= updates for updates, lag in enumerate(lags)), "no policy is older than the first"


@pytest.mark.fault("process", "the process of a runner of environments: {how}")
@pytest.mark.parametrize(
    ("how", "algorithm"),
    [
        ("exit", dataclasses.replace(SMALL["ppo"], horizon=4)),
        ("hang", dataclasses.replace(SMALL["ppo"], horizon=4)),
        ("exit", IMPALA(horizon=4, width=16)),
        ("exit", Slope(horizon=4)),
        ("exit", Hasty(learning_starts=0, train_every=8, updates_per_train=2, batch_size=16, width=16)),
    ],
    ids=["exit", "hang", "exit in a stream", "exit with a gradient", "exit into a replay"],
)
def test_a_runner_that_dies_or_hangs_is_replaced(how, algorithm, ray_cluster, tmp_path, monkeypatch, fault):
    monkeypatch.setattr(actor_pool, "CALL_LIMIT", 2.0)
    options = {"mark": str(tmp_path / "died"), "how": how}
    plan = recipe(algorithm, SCRIPTED + "Deadly", env_options=options, envs=2, steps=64, save_every=8)
    events = []
    result = play.play(plan, seed=0, run=Memory(), runners=2, report=events.append)
    assert (tmp_path / "died").exists()
    [said] = [e["note"] for e in events if "note" in e]
    why = r"gave no answer for 2 s" if how == "hang" else r"died \(its process ended\)"
    fault.saw([said], rf"^Runner [01] {why}; a new one plays in its place\.$")
    assert result["runner_deaths"] == 1
    fault.lost(64 - int(result["env_steps"]), 0)
    fault.unequal("another: a new runner's environments draw other numbers")


def test_two_learners_agree(ray_cluster):
    """Through Ray Train, each with a Ray runner: what the second holds at the end is what the first holds, bit for bit.

    The environment is one that this process alone has registered.
    """
    memory = Memory()
    gym.register(
        "Own/Pole-v0", entry_point="gymnasium.envs.classic_control.cartpole:CartPoleEnv", max_episode_steps=500
    )
    try:
        plan = recipe(SMALL["ppo"], "Own/Pole-v0", normalize_obs=True)
        result = play.play(plan, seed=0, run=memory, learners=2, runners=2)
    finally:
        del gym.registry["Own/Pole-v0"]
    assert result["env_steps"] == 512
    step, state = memory.states[-1]
    first, second = (s["learner"]["actor"] for s in state["learners"])
    assert step == 512
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_a_learner_that_cannot_continue_says_why(ray_cluster):
    """No restarts for what would fail again, and the reason reaches the driver as it would without Ray."""
    plan = recipe(SMALL["ppo"], SCRIPTED + "Broken", envs=2)
    with pytest.raises(FloatingPointError, match=r"Broken gave a reward that is not finite, at step \d+ of runner 0"):
        play.play(plan, seed=0, run=Memory(), learners=2)


def test_a_runner_that_cannot_be_made_says_why(ray_cluster, tmp_path):
    """What the driver could make, to look at its spaces, a runner on another machine maybe cannot."""
    plan = recipe(SMALL["ppo"], SCRIPTED + "Scarce", env_options={"mark": str(tmp_path / "made")}, envs=1)
    with pytest.raises(UsageError, match=r"^There is one world only\.$"):
        play.play(plan, seed=0, run=Memory(), runners=1)


@pytest.mark.fault
def test_a_runner_that_keeps_dying_is_given_up_with_one_sentence(ray_cluster, monkeypatch):
    monkeypatch.setattr(pools, "GIVE_UP", 2)
    plan, notes = recipe(SMALL["ppo"], SCRIPTED + "Mortal", envs=1), []
    said = r"^Runner 0 died \(its process ended\), 2 times in a row: see Ray's log of it, or try --runners 0\.$"
    with pytest.raises(Lost, match=said):
        play.play(plan, seed=0, run=Memory(), runners=1, report=notes.append)
    assert len(notes) == 1


def pool_of(n: int, report) -> pools.Remote:
    return pools.Remote(setup.runner_specs(recipe(SMALL["ppo"], SCRIPTED + "Count"), 0, 0, 1, n), report)


@pytest.mark.fault
def test_a_runner_that_is_killed_at_rest_is_replaced_and_missed_by_no_checkpoint(ray_cluster):
    """Its place in the checkpoint is empty; what continues from it plays other numbers there."""
    notes, plan = [], recipe(SMALL["ppo"], SCRIPTED + "Count")
    pool, weights = pool_of(2, notes.append), setup.untrained(plan, 0).pack()
    process = ray_cluster.get(pool.actors.slots[1].handle.__ray_call__.remote(lambda runner: os.getpid()))
    try:
        first = pool.sample(weights, 0, 4)
        os.kill(process, signal.SIGKILL)
        states = pool.state()
        assert [s["runner"] is None for s in states] == [False, True]
        assert [s["life"] for s in states] == [0, 1]
        assert [e["note"] for e in notes] == ["Runner 1 died (its process ended); a new one plays in its place."]
        other = pool_of(2, notes.append)
        assert other.load(states)
        assert [f.begins for f in other.sample(weights, 0, 4)] == [False, True]
        assert [f.begins for f in pool.sample(weights, 0, 4)] == [False, True]
        assert all(f.begins for f in first)
        other.close()
    finally:
        pool.close()


def test_a_runner_without_a_place_is_told_of_and_given_up(ray_cluster, monkeypatch):
    from ray.util.placement_group import placement_group, remove_placement_group

    monkeypatch.setattr(actor_pool, "PATIENCE", 0.2)
    monkeypatch.setattr(actor_pool, "START_LIMIT", 0.7)
    everything = placement_group([{"CPU": 4}])
    ray_cluster.get(everything.ready())
    notes, plan = [], recipe(SMALL["ppo"], SCRIPTED + "Count", envs=1)
    try:
        with pytest.raises(
            Lost, match=r"^Runner 0 found no free CPU on the cluster within 1 s: make room and resume, or"
        ):
            play.play(plan, seed=0, run=Memory(), runners=1, report=notes.append)
    finally:
        remove_placement_group(everything)
    assert re.fullmatch(r"Runner 0 has waited \d+ s for a free CPU on the cluster\.", notes[-1]["note"])
