"""Learners and nodes that die during each kind of experience: training goes on, and one line says what happened."""

import re

import pytest
import torch

from ray_jobs.recipe import Play
from ray_jobs.rl import runtime
from ray_jobs.rl.algorithms.dqn import DQN
from ray_jobs.rl.algorithms.impala import IMPALA
from ray_jobs.rl.algorithms.ppo import PPO
from tests.ray_jobs.rl.scripted import Memory, Slope
from tests.ray_jobs.rl.test_training import run_learners

SCRIPTED = "tests.ray_jobs.rl.scripted:"
KINDS = {
    "fresh": PPO(horizon=4, epochs=2, minibatches=2, width=16),
    "stream": IMPALA(horizon=4, width=16),
    "replay": DQN(warmup=8, every=8, updates=2, batch=8, width=16, capacity=60, n_step=3, priority=0.6),
    "gradients": Slope(horizon=4),
}


def recipe(kind: str, env: str, **more) -> Play:
    options = {"steps": 64, "envs": 2, "eval_episodes": 1, "log_every": 8, "save_every": 8}
    return Play(KINDS[kind], SCRIPTED + env, **options | more)


def notes(events: list[dict]) -> list[str]:
    return [e["note"] for e in events if "note" in e]


@pytest.mark.parametrize("kind", KINDS)
def test_learners_go_on_when_one_of_them_is_killed(kind, ray_cluster, tmp_path, monkeypatch):
    """Steps and metrics are each there once, and the weights are those of learners that nobody killed, bit for bit."""
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")
    plan = recipe(kind, "Deadly", env_options={"mark": str(tmp_path / "died"), "how": "kill"})
    memory, events = Memory(), []
    result = runtime.play(plan, seed=0, run=memory, learners=2, report=events.append)
    [said] = notes(events)
    found = re.fullmatch(
        r"learner [01] died \(its process ended\); all learners go on from step (\d+) \(death 1 of 3 allowed\)", said
    )
    assert found and int(found[1]) in (8, 16), said
    assert result["env_steps"] == 64
    assert [step for step, _ in memory.lines] == list(range(8, 65, 8))
    unharmed = run_learners(plan, 2)[0].learner.actor.state_dict()
    mine = memory.states[-1][1]["learners"][0]["learner"]["actor"]
    assert all(torch.equal(mine[k], unharmed[k]) for k in unharmed)
