"""TRPO's step against the dense Fisher matrix of its definition, its trust region in training, and its learners."""

import copy
import threading
from dataclasses import dataclass, replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import distributions as D

from ray_jobs.recipe.plan import Play
from ray_jobs.rl.algorithms.policy_gradient.trpo import TRPO
from ray_jobs.rl.learning import play
from ray_jobs.rl.networks.nets import TanhMLP, plain_tanh
from tests.ray_jobs.rl.algorithms.invented import SPACES, advantages, alone, built, columns, invented, standardised
from tests.ray_jobs.rl.learning.test_training import Threads
from tests.ray_jobs.rl.scripted import Memory

SMALL = TRPO(width=3, gamma=0.875, lam=0.75, damping=0.05, iterations=300, max_kl=0.02)


def distribution(agent, out, log_std=None):
    """The policy over torch's own distributions."""
    if not hasattr(agent.policy, "log_std"):
        return D.Categorical(logits=out)
    return D.Independent(D.Normal(out, (agent.policy.log_std if log_std is None else log_std).exp()), 1)


def parameters(agent):
    return [*agent.actor.parameters(), *agent.policy.parameters()]


def gradient_of(scalar, agent):
    found = torch.autograd.grad(scalar, parameters(agent), retain_graph=True, allow_unused=True)
    return torch.cat(
        [(torch.zeros_like(p) if g is None else g).flatten() for g, p in zip(found, parameters(agent), strict=True)]
    )


def scores_squared(agent, obs):
    """E[grad log pi grad log pi'] [P, P] in one state: over all actions, or for the Gaussian over its outputs' known information."""
    out = agent.logits(obs)
    if not hasattr(agent.policy, "log_std"):
        logp = out.log_softmax(-1)
        each = [gradient_of(x, agent) for x in logp]
        return sum(p.exp() * torch.outer(g, g) for p, g in zip(logp.detach(), each, strict=True))
    means = [gradient_of(m, agent) for m in out]
    spread = [gradient_of(s, agent) for s in agent.policy.log_std]
    precision = (-2 * agent.policy.log_std.detach()).exp()
    found = sum(w * torch.outer(g, g) for w, g in zip(precision, means, strict=True))
    return found + sum(2 * torch.outer(g, g) for g in spread)


@pytest.mark.parametrize("kind", ["discrete", "box"])
@pytest.mark.parametrize("thin", [1, 3])
def test_its_step_is_the_dense_natural_gradients(kind, thin):
    """(F + damping I)^-1 g, as long as s (F + damping I) s / 2 = max_kl, with F summed state by state from its definition.

    Conjugate gradients stop at a residual of 1e-5 of the gradient.
    """
    algorithm = replace(SMALL, thin=thin)
    agent, data = built(algorithm, SPACES[kind]), invented(SPACES[kind])
    batch = algorithm.prepare(agent, data, alone())
    advantage, value = advantages(data, agent.value, algorithm.gamma, algorithm.lam)
    torch.testing.assert_close(batch.advantage, standardised(advantage).flatten())
    torch.testing.assert_close(batch.target, (advantage + value).flatten())
    logp = distribution(agent, agent.logits(batch.obs)).log_prob(batch.action)
    g = gradient_of(((logp - logp.detach()).exp() * batch.advantage).mean(), agent)
    F = torch.stack([scores_squared(agent, x) for x in batch.obs[::thin]]).mean(0)
    damped = F + algorithm.damping * torch.eye(len(F), dtype=F.dtype)
    path = torch.linalg.solve(damped, g)
    _, step = algorithm.natural(agent, batch, alone())
    expected = path * (2 * algorithm.max_kl / path.dot(damped @ path)).sqrt()
    torch.testing.assert_close(step, expected, rtol=1e-3, atol=1e-5)


def measured(agent, obs, out, log_std):
    """Mean KL(old || new) by torch's own formulas."""
    return float(D.kl_divergence(distribution(agent, out, log_std), distribution(agent, agent.logits(obs))).mean())


SEEN: list[tuple[float, float, float]] = []


@dataclass(frozen=True)
class Watched(TRPO):
    """Notes each update's KL as measured from outside, what it says of it, and the share of the step."""

    def update(self, agent, optimizers, data, world):
        obs, log_std = data.obs[:-1], getattr(agent.policy, "log_std", torch.zeros(())).detach().clone()
        with torch.no_grad():
            out = agent.logits(obs)
        log = super().update(agent, optimizers, data, world)
        with torch.no_grad():
            SEEN.append((measured(agent, obs, out, log_std), float(log["kl"]), float(log["share"])))
        return log


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("max_kl", [0.01, 0.5])
def test_no_update_leaves_its_trust_region(env, max_kl):
    """In training, with the value fitted after the step; where the region is large, whole steps would leave it."""
    SEEN.clear()
    algorithm = Watched(horizon=64, max_kl=max_kl, damping=1e-3, lam=0.99, width=16, value_epochs=2)
    play.play(Play(algorithm, env, steps=5000, envs=4, eval_episodes=1), seed=0, run=Memory())
    kls, said, shares = (np.array(x) for x in zip(*SEEN, strict=True))
    assert (kls <= max_kl * (1 + 1e-3)).all()
    np.testing.assert_allclose(kls, said, rtol=1e-2, atol=1e-5)
    assert np.median(kls) > 0.3 * max_kl, "and it goes to its edge"
    if max_kl > 0.1:
        assert (shares < 1).any()


def learned(algorithm, agents, datas, worlds):
    """One update of each, as threads."""
    jobs = [
        threading.Thread(target=algorithm.update, args=(a, algorithm.optimizers(a), d, w))
        for a, d, w in zip(agents, datas, worlds, strict=True)
    ]
    [j.start() for j in jobs]
    [j.join(60) for j in jobs]


@pytest.mark.parametrize("kind", ["discrete", "box"])
def test_two_learners_with_half_the_data_are_one_with_all(kind):
    """Gradients, Fisher products, line search and the value's steps, to rounding."""
    algorithm, data = replace(SMALL, minibatches=1, iterations=10), invented(SPACES[kind])
    one, two, three = (built(algorithm, SPACES[kind]) for _ in range(3))
    algorithm.update(one, algorithm.optimizers(one), data, alone())
    threads = Threads(2)
    halves = columns(data, [0, 1]), columns(data, [2, 3])
    learned(algorithm, (two, three), halves, [threads.world(i) for i in range(2)])
    for a, b, c in zip(one.parameters(), two.parameters(), three.parameters(), strict=True):
        assert torch.equal(b, c)
        torch.testing.assert_close(a, b)


def test_where_nothing_improves_the_policy_stays():
    """Advantages of 0 have no gradient, and the value is fitted all the same."""
    agent, data = built(SMALL, SPACES["discrete"]), invented(SPACES["discrete"])
    data = data._replace(reward=torch.zeros_like(data.reward), terminated=torch.ones_like(data.terminated))
    data = data._replace(obs=torch.zeros_like(data.obs), truncated=~data.terminated, last_obs=data.last_obs[:0])
    before = copy.deepcopy(agent)
    log = SMALL.update(agent, SMALL.optimizers(agent), data, alone())
    assert log["share"] == log["kl"] == 0
    assert all(map(torch.equal, before.actor.parameters(), agent.actor.parameters()))
    assert not all(map(torch.equal, before.critic.parameters(), agent.critic.parameters()))


def test_images_go_through_two_networks():
    space = gym.spaces.Box(0, 255, (1, 10, 10), np.uint8)
    data = invented(SPACES["discrete"], shape=space.shape)
    data = data._replace(obs=data.obs.abs() * 50, last_obs=data.last_obs.abs() * 50)
    agent = built(SMALL, SPACES["discrete"], space)
    assert not agent.shared and agent.image
    log = replace(SMALL, iterations=5).update(agent, SMALL.optimizers(agent), data, alone())
    assert 0 < log["kl"] <= SMALL.max_kl


def test_its_network_is_the_fast_one_differentiable_twice():
    nets = []
    for make in (plain_tanh, TanhMLP):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            nets.append(make([4, 8, 8, 2], last=[0.1, 1.0]))
    x = torch.randn(5, 4)
    torch.testing.assert_close(*(net(x) for net in nets))
    weights = list(nets[0].parameters())
    slope = torch.autograd.grad(nets[0](x).square().sum(), weights, create_graph=True)
    assert all(torch.isfinite(h).all() for h in torch.autograd.grad(sum(s.sum() for s in slope), weights))
