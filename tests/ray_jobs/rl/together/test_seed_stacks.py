"""What training seeds together is built from: generators, stacked networks and optimisers, rows by seed."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import nn

from ray_jobs.rl.batches import successors
from ray_jobs.rl.contract import Alone, Steps
from ray_jobs.rl.fast.flat_weights import flatten
from ray_jobs.rl.fast.generators import as_one
from ray_jobs.rl.fast.seed_stacks import StackedModule, StackedOptimizer
from ray_jobs.rl.fast.vmapped import batched, take_rows, unwrap, vmap_seeds, wrap
from ray_jobs.rl.maths import draws
from ray_jobs.rl.networks.agents import ActorCritics
from ray_jobs.rl.networks.critics import Ensemble
from ray_jobs.rl.networks.nets import ReLUMLP, TanhMLP
from ray_jobs.rl.optim.adam import Adam, RMSProp
from ray_jobs.rl.optim.step import gradient_step


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
