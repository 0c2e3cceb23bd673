"""The loop: resuming is exact, learners agree, what is wrong stops it, and what is asked for is counted."""

import contextlib
import dataclasses
import io
import math
import pickle
import threading

import pytest
import torch

from ray_jobs.errors import UsageError
from ray_jobs.recipe.plan import Play
from ray_jobs.rl.algorithms.off_policy.dqn import DQN
from ray_jobs.rl.algorithms.off_policy.sac import SAC
from ray_jobs.rl.algorithms.policy_gradient.impala import IMPALA
from ray_jobs.rl.algorithms.policy_gradient.ppo import PPO
from ray_jobs.rl.contract import Alone, Replay
from ray_jobs.rl.fast import matmul as arithmetic
from ray_jobs.rl.learning import play, setup
from ray_jobs.rl.learning.training import Training
from ray_jobs.rl.optim.step import gradient_step
from ray_jobs.rl.rollout import pools
from ray_jobs.rl.rollout.fragments import tensors
from tests.ray_jobs.rl.scripted import Memory, Pensive, Slope, Still


@dataclasses.dataclass(frozen=True)
class Rehearsed(Still):
    """Replays; its errors are the rewards."""

    length: int = 4
    priority: float = 0.0
    n_step: int = 1

    @property
    def experience(self) -> Replay:
        return Replay(200, 8, 32, every=16, updates=2, n_step=self.n_step, length=self.length, priority=self.priority)

    def update(self, agent, optimizers, data, world):
        loss = agent(data.obs.float()).square().mean()
        gradient_step(loss, optimizers["all"], world)
        return {"loss": loss.detach()} | ({"priority": data.reward} if self.priority else {})


SEQUENCES = Rehearsed()
ALGORITHMS = {
    "ppo": PPO(horizon=16, epochs=2, minibatches=2, width=16, anneal=True),
    "dqn": DQN(learning_starts=64, train_every=32, updates_per_train=4, batch_size=16, width=16, buffer_size=300),
    "impala": IMPALA(horizon=16, width=16),
    "gradients": Slope(horizon=16),
    "reflection": Pensive(horizon=16),
    "priorities": dataclasses.replace(SEQUENCES, length=0, priority=0.6, n_step=3),
    "sequences": SEQUENCES,
}


def recipe(algorithm, env="CartPole-v1", **more) -> Play:
    return Play(algorithm, env, **({"steps": 1024, "envs": 4, "eval_episodes": 2} | more))


def training(plan: Play, run: Memory, *, stop_at: int = 10**9, world=None, runners: int = 1, rank: int = 0) -> Training:
    """With `runners` runners in this process; told to stop at a step."""
    made: list[Training] = []
    t = setup.prepare(
        plan, 0, world or Alone(setup.generator(0, 0)), 0, run, lambda e: None,
        lambda: made[0].counters.steps >= stop_at, "cpu",
    )  # fmt: skip
    made.append(t)
    t.pool = pools.Local(setup.runner_specs(plan, 0, rank, t.world.size, runners * t.world.size))
    return t


def same(a, b) -> bool:
    """Whether two states are equal, every bit of them but the seconds."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a if k != "seconds")
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    return a == b or (a != a and b != b)


class Stranger:
    """Pickles as a call."""

    def __reduce__(self):
        return print, ("pwned",)


@pytest.mark.parametrize("ours", [False, True])
def test_only_the_training_says_whose_a_checkpoint_is(ours, capsys):
    """What the checkpoint says of itself does not count."""
    run, plan = Memory(), recipe(ALGORITHMS["dqn"])
    training(plan, run, stop_at=256).go()
    _, state = run.states[-1]
    (runner,) = state["learners"][0]["runners"]
    runner |= {"env": pickle.dumps(Stranger()), "ours": True}
    with pytest.raises((TypeError, AttributeError)) if ours else contextlib.nullcontext():
        training(plan, Memory()).go(state, trusted=ours)  # where it is not trusted, new episodes begin
    assert ("pwned" in capsys.readouterr().out) is ours


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("runners", [1, 2])
def test_resuming_is_exact(name, runners):
    """2N steps, or N, saved to bytes, and N by new objects: the same weights, optimisers, buffers, generators and environments.

    In this process a stream is one runner after the other, hence exact as well.
    """
    if name == "impala" and runners == 2:
        pytest.skip("whose turn it is among the runners is not a part of the state: a stream promises no order")
    plan = recipe(ALGORITHMS[name], normalize_obs=True, normalize_reward=True)
    whole, first, second = Memory(), Memory(), Memory()
    training(plan, whole, runners=runners).go()
    training(plan, first, stop_at=512, runners=runners).go()
    assert first.states[-1][0] == 512
    file = io.BytesIO()
    torch.save(first.states[-1][1], file)
    file.seek(0)
    torch.manual_seed(99)
    training(plan, second, runners=runners).go(torch.load(file, weights_only=True))
    (step, a), (_, b) = whole.states[-1], second.states[-1]
    assert step == 1024
    a["learners"][0]["runners"], b["learners"][0]["runners"] = [], []  # pickles of equal environments may differ
    assert same(a, b)


def test_a_checkpoint_of_other_runners_is_refused():
    plan, memory = recipe(ALGORITHMS["ppo"]), Memory()
    training(plan, memory, stop_at=64).go()
    with pytest.raises(UsageError, match="resume with as many"):
        training(plan, Memory(), runners=2).go(memory.states[-1][1])


class Threads:
    """Learners as threads: `mean` meets the others at a barrier, and adds in their order."""

    def __init__(self, n: int) -> None:
        self.barrier, self.given = threading.Barrier(n), [None] * n

    def world(self, rank: int):
        world, shared = Alone(setup.generator(0, rank), size=len(self.given), rank=rank), self

        def mean(x):
            shared.given[rank] = x.detach().clone()
            shared.barrier.wait()
            out = torch.stack(shared.given).mean(0)
            shared.barrier.wait()
            return out

        world.mean = mean
        return world


def run_learners(plan: Play, n: int) -> list[Training]:
    threads = Threads(n)
    made = [training(plan, Memory(), world=threads.world(i), rank=i) for i in range(n)]
    jobs = [threading.Thread(target=t.loop) for t in made]
    [j.start() for j in jobs]
    [j.join(300) for j in jobs]
    return made


@pytest.mark.parametrize("name", ALGORITHMS)
def test_learners_agree_bit_for_bit(name):
    plan = recipe(ALGORITHMS[name], normalize_obs=True, normalize_reward=True, steps=512)
    one, two = run_learners(plan, 2)
    assert one.counters.steps == two.counters.steps == 512
    assert (one.learner.actor.pack() == two.learner.actor.pack()).all()


def test_two_learners_with_a_runner_each_are_one_with_two():
    """On the same data, and with the whole batch in each gradient: up to the order of sums."""
    plan = recipe(PPO(horizon=32, epochs=3, minibatches=1, width=16, entropy_weight=0.01), steps=256)
    pair = run_learners(plan, 2)
    alone = training(plan, Memory(), runners=2)
    alone.pool.close()
    alone.pool = pools.Local([setup.runner_specs(plan, 0, rank, 2, 2)[0] for rank in range(2)])
    alone.loop()
    a, b = (torch.from_numpy(t.learner.actor.pack()) for t in (pair[0], alone))
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_a_loss_that_is_not_finite_stops_before_anything_is_saved():
    plan, memory = recipe(Still(poison=40), "tests.ray_jobs.rl.scripted:Count", save_every=64, log_every=64), Memory()
    with pytest.raises(FloatingPointError, match=r"loss became nan at step 4\d\d"):
        play.play(plan, seed=0, run=memory)
    assert memory.states[-1][0] == 384
    assert all(math.isfinite(m["loss"]) for _, m in memory.lines)


def test_told_to_stop_it_saves_and_does_not_evaluate():
    memory = Memory()
    result = play.play(recipe(ALGORITHMS["ppo"]), seed=0, run=memory, should_stop=lambda: True)
    assert memory.states[-1][0] == memory.lines[-1][0] == result["env_steps"] == 64
    assert "episode_return" not in result


def test_what_is_logged_saved_and_reported():
    memory, events = Memory(), []
    plan = recipe(ALGORITHMS["dqn"], log_every=256, save_every=512)
    result = play.play(plan, seed=0, run=memory, report=events.append)
    assert [s for s, _ in memory.lines] == [256, 512, 768, 1024]
    assert [s for s, _ in memory.states] == [512, 1024]
    assert events[-1]["step"] == events[-1]["steps"] == 1024
    shares = [v for k, v in memory.lines[-1][1].items() if k.startswith("share_")]
    assert len(shares) == 4
    assert sum(shares) == pytest.approx(1.0)
    assert {"td_loss", "q", "episode_return", "runner_deaths"} <= memory.lines[-1][1].keys()
    assert {"episode_return", "episode_return_std", "train_return", "env_steps"} <= result.keys()


def test_it_stops_at_the_return_it_was_asked_for():
    """Count's episodes return 6 and 65 and more: the mean passes 200 as soon as 100 of them have ended."""
    plan = recipe(Still(), "tests.ray_jobs.rl.scripted:Count", stop_return=200.0, steps=100_000)
    result = play.play(plan, seed=0, run=Memory())
    assert result["train_return"] >= 200
    assert result["env_steps"] < 2000
    assert result["seconds_to_return"] == result["train_seconds"]


def test_a_finished_training_that_is_resumed_only_evaluates():
    """As after a kill between the last checkpoint and the result; and `evaluate` measures the same from the checkpoint."""
    plan = recipe(ALGORITHMS["ppo"], normalize_obs=True)
    first, second = Memory(), Memory()
    result = play.play(plan, seed=0, run=first)
    again = play.play(plan, seed=0, run=second, resume=first.states[-1][1])
    assert again == result
    assert second.states == []
    measured = play.evaluate(plan, first.states[-1][1], seed=0)
    assert measured == {k: result[k] for k in measured}


def test_a_full_disk_ends_no_training():
    class Full(Memory):
        def save(self, step, state):
            raise OSError(28, "No space left on device")

    events = []
    result = play.play(recipe(ALGORITHMS["ppo"]), seed=0, run=Full(), report=events.append)
    assert result["env_steps"] == 1024
    assert any("could not be written" in e.get("note", "") for e in events)


def test_the_same_seed_is_the_same_result_whatever_the_global_generators():
    results = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        results.append(play.play(recipe(ALGORITHMS["ppo"]), seed=4, run=Memory()))
        results[-1].pop("train_seconds")
    assert results[0] == results[1]


def test_a_gradient_is_what_the_learner_would_have_found():
    """The runner's gradient of its steps, against the learner differentiating the loss over the same steps."""
    plan, memory = recipe(Slope(horizon=8)), Memory()
    t = training(plan, memory)
    weights, runner = t.learner.actor.pack(), t.pool.runners[0]
    twin = pools.Local(setup.runner_specs(plan, 0, 0, 1, 1)).runners[0]
    steps = tensors([twin.sample(weights, 0, 8)], torch.device("cpu"))
    sent = runner.play(weights, 0, 8)
    loss, _ = plan.algorithm.loss(t.learner.actor.agent, steps)
    found = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(t.learner.actor.agent.parameters()))])
    assert torch.equal(torch.from_numpy(sent.gradient), found)
    assert sent.steps[0].size == sent.steps[1].size == 0, "steps stay where they were played"
    assert sent.extras["loss"] == loss.item()


def test_a_learner_alone_counts_the_smallest_numbers_as_none():
    """1e-39 has no full mantissa in float32. Whoever plays in the same process computes as before."""
    seen, tiny = [], torch.tensor([1e-38])
    t = training(recipe(IMPALA(horizon=4)), Memory())
    t.learner.improve = lambda data: seen.append(float(tiny * 0.1)) or {}
    assert float(tiny * 0.1) > 0
    t.round()
    assert seen == [0.0]
    assert float(tiny * 0.1) > 0


units = pytest.mark.skipif(not arithmetic.has_bfloat16(), reason="no units for bfloat16")


@units
@pytest.mark.parametrize("fails", [False, True])
def test_a_learner_alone_multiplies_in_bfloat16(fails):
    """1 + 2^-9 is rounded to 1; whoever plays in the same process multiplies as before, also after an update that fails."""
    seen, x = [], torch.full((32, 32), 1 + 2**-9)
    one = torch.eye(32)
    t = training(recipe(IMPALA(horizon=4), matmul="bfloat16"), Memory())

    def improve(data):
        seen.append((x @ one, torch.baddbmm(0 * x, x[None], one[None])[0]))
        if fails:
            raise FloatingPointError
        return {}

    t.learner.improve = improve
    with pytest.raises(FloatingPointError) if fails else contextlib.nullcontext():
        t.round()
    assert all((y == 1).all() for y in seen[0])
    assert torch.equal(x @ one, x)
    assert torch.get_float32_matmul_precision() == "highest"


@units
def test_what_is_learned_in_bfloat16_is_close():
    """One update of SAC: each number moved by no more than Adam's step apart, and not all to the same place."""
    states = []
    for matmul in ("float32", "bfloat16"):
        memory = Memory()
        plan = recipe(SAC(learning_starts=64, train_every=64, batch_size=64), "Pendulum-v1", matmul=matmul, steps=64)
        training(plan, memory).go()
        actor = memory.states[-1][1]["learners"][0]["learner"]["actor"]
        states.append(torch.cat([p.flatten() for p in actor.values()]))
        assert states[-1].dtype == torch.float32
    apart = (states[0] - states[1]).abs()
    assert 0 < apart.max() <= 2.01 * SAC().lr


def test_bfloat16_is_refused_where_it_is_not(monkeypatch):
    with pytest.raises(UsageError, match="take float32"):
        arithmetic.check_matmul("bfloat16", torch.device("cuda"))
    monkeypatch.setattr(arithmetic, "has_bfloat16", lambda: False)
    with pytest.raises(UsageError, match="CPUs with units for it"):
        training(recipe(IMPALA(horizon=4), matmul="bfloat16"), Memory())
    arithmetic.check_matmul("float32", torch.device("cuda"))


def test_reflection_sees_what_the_last_updates_saw():
    memory = Memory()
    t = training(recipe(Pensive(horizon=8), log_every=1, steps=8 * 4 * 7), memory)
    t.go()
    seen = [m["loss"] * 32 for _, m in memory.lines]
    looked = [m.get("looked_back_on") for _, m in memory.lines]
    assert [x is not None for x in looked] == [False, False, True, False, False, True, False]
    assert looked[2] == pytest.approx(sum(seen[:3]))
    assert looked[5] == pytest.approx(sum(seen[3:6]))


def test_nothing_can_be_normalised_where_steps_stay():
    with pytest.raises(UsageError, match="Slope's runners send gradients and no steps"):
        play.play(recipe(Slope(), normalize_obs=True), seed=0, run=Memory())


def test_what_another_runner_plays_is_not_what_came_next():
    """Its first steps end what is replayed before them, and returns that scale rewards begin again."""
    t = training(recipe(ALGORITHMS["dqn"], normalize_reward=True), Memory())
    weights = t.learner.actor.pack()
    first, second = (t.pool.sample(weights, 0, 2) for _ in range(2))
    t.learner.learn(first, 8)
    going = ~t.learner.buffer.ring.data["terminated"][1]
    t.learner.learn([f._replace(begins=True) for f in second], 16)
    assert torch.equal(
        t.learner.buffer.ring.data["truncated"][:4], torch.stack([going & False, going, *[going & False] * 2])
    )
    assert (t.learner.scale.running["0"] <= 1 + ALGORITHMS["dqn"].gamma).all()
