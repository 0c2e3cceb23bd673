"""Seeds that train together against the same seeds alone."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
from torch import nn

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
from ray_jobs.rl.batches import successors
from ray_jobs.rl.contract import Alone, Steps
from ray_jobs.rl.fast import layers
from ray_jobs.rl.fast.flat_weights import flatten
from ray_jobs.rl.fast.generators import as_one
from ray_jobs.rl.fast.seed_stacks import StackedModule, StackedOptimizer
from ray_jobs.rl.fast.vmapped import batched, take_rows, unwrap, vmap_seeds, wrap
from ray_jobs.rl.learning.play import play
from ray_jobs.rl.learning.setup import generator, prepare
from ray_jobs.rl.learning.training import Training
from ray_jobs.rl.maths import draws
from ray_jobs.rl.networks.agents import ActorCritics
from ray_jobs.rl.networks.critics import Ensemble
from ray_jobs.rl.networks.nets import ReLUMLP, TanhMLP
from ray_jobs.rl.optim.adam import Adam, RMSProp
from ray_jobs.rl.optim.step import gradient_step
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
    play_together(plan, [3], [together], states=[state], done=lambda i, m: None, failed=lambda i, e: None)
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


# ---- what it is made of


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: draws.normal((33, 2), rng),
        lambda rng: draws.normal((3,), rng),
        lambda rng: draws.uniform((40,), rng),
        lambda rng: draws.exponential((7, 5), rng),
        lambda rng: draws.integers(11, (50,), rng),
        lambda rng: draws.permutation(37, rng),
    ],
)
def test_a_generator_draws_the_same_alone_and_among_others(draw) -> None:
    alone = [draw(torch.Generator().manual_seed(s)) for s in range(3)]
    among = as_one([torch.Generator().manual_seed(s) for s in range(3)])
    assert torch.equal(vmap_seeds(3, lambda: unwrap(draw(among))), torch.stack(alone))


def test_draws_are_torchs_own() -> None:
    rng = [torch.Generator().manual_seed(3) for _ in range(10)]
    assert torch.equal(draws.normal((33,), rng[0]), torch.randn(33, generator=rng[1]))
    assert torch.equal(draws.uniform((33,), rng[2]), torch.rand(33, generator=rng[3]))
    assert torch.equal(draws.integers(9, (33,), rng[4]), torch.randint(9, (33,), generator=rng[5]))
    assert torch.equal(draws.permutation(33, rng[6]), torch.randperm(33, generator=rng[7]))
    assert torch.equal(draws.exponential((33,), rng[8]), torch.empty(33).exponential_(generator=rng[9]))


@pytest.mark.parametrize(
    "make",
    [lambda: ReLUMLP([5, 8, 8, 3]), lambda: TanhMLP([5, 8, 8, 3]), lambda: Ensemble(2, [5, 8, 3])],
)
def test_stacked_networks_and_their_gradients_are_each_ones_own(make) -> None:
    torch.manual_seed(0)
    nets, x = [make() for _ in range(3)], torch.randn(3, 7, 5)
    leaves = {
        n: nn.Parameter(torch.stack([dict(m.named_parameters())[n].detach() for m in nets]))
        for n, _ in nets[0].named_parameters()
    }
    stack = StackedModule(nets, leaves)
    x.requires_grad_()

    def call(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return net.each(x.expand(2, -1, -1)) if isinstance(net, Ensemble) else net(x)

    def together() -> torch.Tensor:
        stack.show()
        return unwrap(call(stack.module, wrap(x)))

    out = vmap_seeds(3, together)
    torch.testing.assert_close(out, torch.stack([call(m, x[s]) for s, m in enumerate(nets)]))
    out.square().sum().backward()
    for s, net in enumerate(nets):
        mine = x.detach()[s].requires_grad_()
        call(net, mine).square().sum().backward()
        torch.testing.assert_close(x.grad[s], mine.grad, rtol=1e-4, atol=1e-5)
        for n, p in net.named_parameters():
            torch.testing.assert_close(leaves[n].grad[s], p.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("max_norm", "worst"), [(math.inf, 1.0), (0.5, 1.0), (0.5, math.nan)])
@pytest.mark.parametrize("kind", [lambda p: Adam(p, 0.1), lambda p: RMSProp(p, 0.1)])
def test_a_stacked_step_is_each_seeds_own(kind, max_norm: float, worst: float) -> None:
    def make(s: int) -> nn.Linear:
        torch.manual_seed(s)
        return nn.Linear(3, 2)

    alone, together = [make(s) for s in range(3)], [make(s) for s in range(3)]
    singles = [kind(flatten(list(m.parameters()))) for m in alone]
    others = [kind(flatten(list(m.parameters()))) for m in together]
    stacked = StackedOptimizer(others, [list(m.parameters()) for m in together])
    module = StackedModule(together, dict(zip(["weight", "bias"], stacked.leaves, strict=True)))
    x, world = torch.randn(3, 4, 3), Alone(torch.Generator())
    x[1] *= worst
    close = partial(torch.testing.assert_close, equal_nan=True)

    def step() -> None:
        module.show()
        gradient_step(module.module(wrap(x)).square().mean(), stacked, world, max_norm)

    for _ in range(3):
        for s, m in enumerate(alone):
            gradient_step(m(x[s]).square().mean(), singles[s], world, max_norm)
        vmap_seeds(3, step)
    module.write_back(together)
    stacked.write_back(others)
    for a, b, m, n in zip(singles, others, alone, together, strict=True):
        close(b.param_groups[0]["params"][0], a.param_groups[0]["params"][0])
        close(n.weight, m.weight)
        assert b.steps == a.steps == 3
        for k, v in a.state_dict()["state"][0].items():
            close(b.state_dict()["state"][0][k], v)


def test_lists_of_tensors_beside_the_modules_are_shown_too() -> None:
    import gymnasium as gym

    obs, action = gym.spaces.Box(-1, 1, (3,)), gym.spaces.Box(-1, 1, (1,))
    agents = [ActorCritics(obs, action, width=4) for _ in range(2)]
    for a in agents:
        for p in a.actor.parameters():
            p.data += 1.0
    stack = StackedModule(agents, {})

    def follow() -> None:
        stack.show()
        stack.module.update_targets(0.25)

    vmap_seeds(2, follow)
    stack.write_back(agents)
    for a in agents:
        for slow, now in zip(a.slow_actor.parameters(), a.actor.parameters(), strict=True):
            torch.testing.assert_close(now - slow, torch.full_like(now, 0.75))


def test_successors_where_seeds_are_cut_more_or_less_often() -> None:
    torch.manual_seed(0)
    cut = torch.rand(3, 6, 4) < torch.tensor([0.0, 0.2, 0.7])[:, None, None]
    last = [torch.randn(int(c.sum()), 2) for c in cut]
    wide = torch.stack([torch.cat([x, torch.zeros(24 - len(x), 2)]) for x in last])
    obs = torch.randn(3, 7, 4, 2)
    none = torch.zeros(6, 4)

    def steps(obs, cut, last) -> Steps:
        return Steps(obs, none, none, none.bool(), cut, last, {})

    def value(x):
        return x.sum(-1)

    found = vmap_seeds(3, lambda: unwrap(successors(value(wrap(obs)), value, steps(wrap(obs), wrap(cut), wrap(wide)))))
    expected = [successors(value(obs[s]), value, steps(obs[s], cut[s], last[s])) for s in range(3)]
    assert torch.equal(found, torch.stack(expected))


def test_what_is_told_all_seeds_is_told_them_first() -> None:
    x = torch.arange(6.0).view(2, 3)
    found = vmap_seeds(3, lambda: unwrap(batched(lambda y: y * y.shape[0], wrap(x.t()).flip(0))))
    assert torch.equal(found, 3 * x.t().flip(1))


@pytest.mark.parametrize("shape", [(6,), (6, 4), (6, 2, 3)])
@pytest.mark.parametrize("dim", [0, 1])
def test_each_seed_takes_the_rows_it_has_chosen(shape: tuple[int, ...], dim: int) -> None:
    torch.manual_seed(0)
    x, at = torch.randn(3, *shape), torch.randint(6, (3, 5))
    weight = torch.randn(3, 5, *shape[1:])
    leaf = x.clone().requires_grad_()
    stacked = leaf.movedim(0, dim).contiguous().movedim(dim, 0)  # what torch has stacked along another dimension
    found = vmap_seeds(3, lambda: unwrap(take_rows(wrap(stacked), wrap(at))))
    (grad,) = torch.autograd.grad((found * weight).sum(), leaf)
    for s in range(3):
        mine = x[s].clone().requires_grad_()
        assert torch.equal(found[s], mine[at[s]])
        assert torch.equal(grad[s], torch.autograd.grad((mine[at[s]] * weight[s]).sum(), mine)[0])
    assert torch.equal(vmap_seeds(3, lambda: unwrap(take_rows(wrap(x), at[0]))), x[:, at[0]])  # the same rows for all
    assert torch.equal(vmap_seeds(3, lambda: unwrap(take_rows(x[0], wrap(at)))), x[0][at])  # of the same numbers


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
    import gymnasium as gym
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
