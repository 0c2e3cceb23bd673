"""PPO's KL penalty: its loss and gradient against equation 8 by torch's own distributions, and the rule of its weight."""

import copy
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import distributions as D

from ray_jobs.recipe.plan import Play
from ray_jobs.rl.algorithms.policy_gradient.ppo import PPO
from ray_jobs.rl.batches import advantage_batch
from ray_jobs.rl.learning import play
from tests.ray_jobs.rl.algorithms.invented import SPACES, alone, built, invented, standardised
from tests.ray_jobs.rl.scripted import Memory

SMALL = PPO(width=4, penalty_kl=0.01, penalty=0.7, epochs=1, minibatches=1, max_norm=float("inf"))


def distribution(policy, out):
    """The policy by torch's own distributions; choices side by side are a product of them."""
    if hasattr(policy, "log_std"):
        return [D.Independent(D.Normal(out, policy.log_std.exp()), 1)]
    return [D.Categorical(logits=x) for x in out.split(getattr(policy, "sizes", [policy.outputs]), -1)]


def log_prob(policy, out, action):
    parts = distribution(policy, out)
    each = action.unbind(-1) if len(parts) > 1 else [action]
    return sum(d.log_prob(a) for d, a in zip(parts, each, strict=True))


def kl(old, old_out, new, new_out):
    pairs = zip(distribution(old, old_out), distribution(new, new_out), strict=True)
    return sum(D.kl_divergence(a, b) for a, b in pairs)


def shifted(agent):
    """The agent, its parameters moved a little."""
    other = copy.deepcopy(agent)
    rng = torch.Generator().manual_seed(1)
    for p in other.parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=rng, dtype=p.dtype)
    return other


@pytest.mark.parametrize("kind", SPACES)
def test_its_loss_is_equation_8(kind):
    """And its gradient reaches the deviations of a Gaussian through the KL as well."""
    old, data = built(SMALL, SPACES[kind]), invented(SPACES[kind])
    batch, new = advantage_batch(old, data, SMALL.gamma, SMALL.lam), shifted(old)
    loss, log = SMALL.loss(new, batch, 0.2, alone(), old.policy)
    policy, error = log["policy_loss"], log["value_loss"]
    out, (before, _) = new.logits(batch.obs), old(batch.obs)
    ratio = (log_prob(new.policy, out, batch.action) - log_prob(old.policy, before, batch.action).detach()).exp()
    apart = kl(copy.deepcopy(old.policy).requires_grad_(False), before.detach(), new.policy, out)
    expected = (-ratio * standardised(batch.advantage) + 0.7 * apart).mean()
    torch.testing.assert_close(policy, expected)
    torch.testing.assert_close(loss, expected + SMALL.value_weight * error)
    ours = [*new.actor.parameters(), *new.policy.parameters()]
    for a, b in zip(torch.autograd.grad(policy, ours), torch.autograd.grad(expected, ours), strict=True):
        torch.testing.assert_close(a, b)


SEEN: list[tuple[float, float, float]] = []


@dataclass(frozen=True)
class Watched(PPO):
    """Notes each update's exact KL over the whole batch, and the penalty's weight before and after."""

    def update(self, agent, optimizers, data, world):
        before = copy.deepcopy(agent)
        log = super().update(agent, optimizers, data, world)
        with torch.no_grad():
            outs = before.logits(data.obs[:-1]), agent.logits(data.obs[:-1])
            moved = float(kl(before.policy, outs[0], agent.policy, outs[1]).mean())
        SEEN.append((moved, float(before.beta), float(agent.beta)))
        assert float(log["kl"]) == pytest.approx(moved, rel=1e-2, abs=1e-6)
        return log


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_its_weight_doubles_and_halves_by_the_rule(env):
    """Over a training in which it does both, and neither; and the KL comes near its target: within a factor of 3 in the middle half."""
    SEEN.clear()
    algorithm = Watched(horizon=64, epochs=4, lr=5e-3, width=16, penalty_kl=0.01, penalty=1.0)
    play.play(Play(algorithm, env, steps=64 * 4 * 60, envs=4, eval_episodes=1), seed=0, run=Memory())
    branches = [0, 0, 0]
    for moved, before, after in SEEN:
        branch = 2 if moved > 0.015 else 0 if moved < 0.01 / 1.5 else 1
        branches[branch] += 1
        assert after == pytest.approx(max(before * (0.5, 1.0, 2.0)[branch], 1e-3))
    assert all(branches)
    assert 0.01 / 3 < np.median([moved for moved, _, _ in SEEN[10:]]) < 0.03


def test_its_weight_comes_back_from_the_least():
    """Where nothing moves for long it would else become 0, which no doubling ends."""
    algorithm = replace(SMALL, lr=0.0, penalty=4e-3)
    agent, data = built(algorithm, SPACES["box"]), invented(SPACES["box"])
    optimizers = algorithm.optimizers(agent)
    betas = [float(algorithm.update(agent, optimizers, data, alone())["beta"]) for _ in range(4)]
    assert betas == pytest.approx([2e-3, 1e-3, 1e-3, 1e-3])


def test_without_a_target_there_is_no_weight():
    assert "beta" not in dict(built(replace(SMALL, penalty_kl=0.0), SPACES["box"]).named_buffers())
