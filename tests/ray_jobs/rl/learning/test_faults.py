"""Learners and nodes that die during each kind of experience: training continues, and one line says what happened."""

import re
import threading
from pathlib import Path

import pytest
import torch

from ray_jobs.distributed import actor_pool, ray_group
from ray_jobs.recipe.plan import Play
from ray_jobs.rl.algorithms.off_policy.dqn import DQN
from ray_jobs.rl.algorithms.policy_gradient.impala import IMPALA
from ray_jobs.rl.algorithms.policy_gradient.ppo import PPO
from ray_jobs.rl.learning import play
from tests.ray_jobs.command import wait_for
from tests.ray_jobs.rl.learning.test_training import run_learners
from tests.ray_jobs.rl.scripted import Hasty, Memory, Slope

SCRIPTED = "tests.ray_jobs.rl.scripted:"
KINDS = {
    "fresh": PPO(horizon=4, epochs=2, minibatches=2, width=16),
    "stream": IMPALA(horizon=4, width=16),
    "replay": DQN(
        learning_starts=8,
        train_every=8,
        updates_per_train=2,
        batch_size=8,
        width=16,
        buffer_size=60,
        n_step=3,
        priority=0.6,
    ),
    "gradients": Slope(horizon=4),
}
DIED = re.compile(
    r"(learner [01] died \(its (process ended|node is gone)\)|a learner died \(learner [01] lost its connection\)); "
    r"all learners continue from step \d+ \(death 1 of 3 allowed\)"
)
LOST = re.compile(r"Runner [01] died \(its (node is gone|connection is broken)\); a new one plays in its place\.")
WAITED = re.compile(r"Runner [01] has waited \d+ s for a free CPU on the cluster\.")
HASTY = {
    "hasty replay": Hasty(learning_starts=8, train_every=8, updates_per_train=2, batch_size=8, width=16, buffer_size=60)
}


def recipe(kind: str, env: str, **more) -> Play:
    options = {"steps": 64, "envs": 2, "eval_episodes": 1, "log_every": 8, "save_every": 8}
    return Play((KINDS | HASTY)[kind], SCRIPTED + env, **options | more)


def notes(events: list[dict]) -> list[str]:
    return [e["note"] for e in events if "note" in e]


class Heard(list):
    """The events of a training, each with the last step that was logged when it came."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self.memory = memory

    def add(self, event: dict) -> None:
        self.append({**event, "at": self.memory.lines[-1][0] if self.memory.lines else 0})

    def died(self, fault) -> None:
        """Keep the line that told of a learner's death, and what it cost."""
        said = fault.saw(notes(self), "died")
        at = next(e["at"] for e in self if e.get("note") == said)
        fault.lost(max(0, at - int(re.search(r"from step (\d+)", said)[1])), 8)


def unharmed(plan: Play, memory: Memory) -> bool:
    """Whether the weights are, bit for bit, those of two learners that nobody killed."""
    mine, theirs = memory.states[-1][1]["learners"][0]["learner"]["actor"], run_learners(plan, 2)[0].learner.actor
    return all(torch.equal(mine[k], x) for k, x in theirs.state_dict().items())


@pytest.mark.fault("process", "one of two learners is killed (experience: {kind})")
@pytest.mark.parametrize("kind", ["fresh", *(pytest.param(k, marks=pytest.mark.slow) for k in ("stream", "gradients"))])
def test_learners_continue_when_one_of_them_is_killed(kind, ray_cluster, tmp_path, monkeypatch, fault):
    """Steps and metrics are each there once. Replay: below. Two kinds are left to `-m slow`: a group starts twice in each."""
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")
    plan = recipe(kind, "Deadly", env_options={"mark": str(tmp_path / "died"), "how": "kill"})
    memory = Memory()
    events = Heard(memory)
    result = play.play(plan, seed=0, run=memory, learners=2, report=events.add)
    [said] = notes(events)
    assert DIED.fullmatch(said) and re.search(r"step (8|16) ", said), said
    assert result["env_steps"] == 64
    assert [step for step, _ in memory.lines] == list(range(8, 65, 8))
    events.died(fault)
    fault.equal(unharmed(plan, memory))


class Nodes:
    """A node beside the session's own, which has one core left for us: what needs two must use both."""

    def __init__(self, ray) -> None:
        from ray._private.worker import global_worker
        from ray._raylet import GcsClientOptions
        from ray.cluster_utils import Cluster
        from ray.util.placement_group import placement_group

        self.ray, self.cluster = ray, Cluster(shutdown_at_exit=False)
        self.cluster.head_node = head = global_worker.node
        self.cluster.redis_address = head.redis_address
        options = GcsClientOptions.create(
            head.gcs_address, None, allow_cluster_id_nil=True, fetch_cluster_id_if_nil=False
        )
        self.cluster.global_state._initialize_global_state(options)
        self.reserved = placement_group([{"CPU": 3}])
        ray.get(self.reserved.ready())
        self.add()

    def add(self) -> None:
        self.node = self.cluster.add_node(num_cpus=1, object_store_memory=80_000_000, include_dashboard=False)

    def lose(self) -> None:
        """As if its machine had lost its power."""
        self.cluster.remove_node(self.node, allow_graceful=False)

    def close(self) -> None:
        from ray.util.placement_group import remove_placement_group

        remove_placement_group(self.reserved)
        self.lose()
        wait_for(lambda: sum(node["Alive"] for node in self.ray.nodes()) == 1, seconds=60)


@pytest.fixture(scope="module")
def nodes(ray_cluster):
    made = Nodes(ray_cluster)
    yield made
    made.close()


class Storm(threading.Thread):
    """Takes the node away when the environments on it have made `mark`; gives another when `enough()`."""

    def __init__(self, nodes: Nodes, mark: Path, enough) -> None:
        super().__init__()
        self.nodes, self.mark, self.enough = nodes, mark, enough

    def run(self) -> None:
        wait_for(self.mark.exists, seconds=60)
        self.nodes.lose()
        wait_for(self.enough, seconds=60)
        self.nodes.add()


def doomed(nodes: Nodes, folder: Path, until: int) -> dict:
    """The options of environments that are to lose their node."""
    births = folder / "births"
    births.touch()
    return {"node": nodes.node.node_id, "mark": str(folder / "mark"), "births": str(births), "until": until}


@pytest.mark.fault("node", "a runner's node is lost (experience: {kind})")
@pytest.mark.parametrize("kind", [*KINDS, "hasty replay"])
def test_a_runner_whose_node_is_lost_plays_on_elsewhere(kind, nodes, tmp_path, monkeypatch, fault):
    """Who waits for nobody continues without it: the other runner plays 40 steps before there is room for a second one again."""
    monkeypatch.setattr(actor_pool, "PATIENCE", 0.3)
    memory, events = Memory(), []
    alone = 40 if kind in ("stream", "gradients", "hasty replay") else 16
    plan = recipe(kind, "Doomed", env_options=doomed(nodes, tmp_path, until=44), steps=160)

    def enough() -> bool:
        said = notes(events)
        gone = said.index(lost[0]) if (lost := [n for n in said if LOST.fullmatch(n)]) else len(said)
        return any(WAITED.fullmatch(n) for n in said[gone:]) and memory.lines[-1][0] >= alone

    storm = Storm(nodes, tmp_path / "mark", enough)
    storm.start()
    result = play.play(plan, seed=0, run=memory, runners=2, report=events.append)
    storm.join()
    assert sum(bool(LOST.fullmatch(n)) for n in notes(events)) == 1
    for said in (LOST, WAITED):
        fault.saw(notes(events), said.pattern)
    fault.lost(160 - int(result["env_steps"]), 0)
    fault.unequal("another: a new runner's environments draw other numbers")
    assert result["runner_deaths"] == 1
    assert len(memory.states) == len(memory.lines) == 20


@pytest.mark.fault("node", "the node of one of two learners is lost")
def test_learners_continue_when_one_of_them_loses_its_node(nodes, tmp_path, monkeypatch, fault):
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")
    monkeypatch.setattr(ray_group, "PATIENCE", 0.5)
    memory = Memory()
    events = Heard(memory)
    plan = recipe("replay", "Doomed", env_options=doomed(nodes, tmp_path, until=99))
    storm = Storm(nodes, tmp_path / "mark", lambda: any("no news of the workers" in n for n in notes(events)[1:]))
    storm.start()
    result = play.play(plan, seed=0, run=memory, learners=2, report=events.add)
    storm.join()
    [died] = [n for n in notes(events) if DIED.fullmatch(n)]
    assert "continue from step 16" in died
    assert result["env_steps"] == 64
    assert [step for step, _ in memory.lines] == list(range(8, 65, 8))
    events.died(fault)
    fault.equal(unharmed(plan, memory))
