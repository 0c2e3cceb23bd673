"""ACKTR where K-FAC's block is exact, its trust region in training, and its critic where Gauss-Newton is Newton."""

import copy
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from ray_jobs.recipe.plan import Play
from ray_jobs.rl.algorithms.policy_gradient import acktr
from ray_jobs.rl.algorithms.policy_gradient.acktr import ACKTR
from ray_jobs.rl.learning import play
from ray_jobs.rl.networks.agents import ActorCritic
from tests.ray_jobs.rl.algorithms.invented import OBS, SPACES, alone, built, invented, standardised
from tests.ray_jobs.rl.scripted import Memory


def linear(sizes, *, last=1.0):
    """No hidden layer, and every output alike: then slopes and inputs are independent, and F is G (x) A."""
    layer = nn.Linear(sizes[0], sizes[-1])
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return nn.Sequential(layer)


def bandit(seed=0):
    """Each of 8 states three times, once for each action; every step ends its episode, so that its return is its reward."""
    data = invented(SPACES["discrete"], T=3, B=8, seed=seed)
    obs = torch.cat([data.obs[:1].expand(3, -1, -1), data.obs[-1:]])
    action = torch.arange(3)[:, None].expand(3, 8)
    over = torch.ones_like(data.terminated)
    return data._replace(obs=obs, action=action, terminated=over, truncated=~over, last_obs=data.last_obs[:0])


def test_a_linear_softmax_policy_takes_the_natural_gradient():
    """Exactly along F^+ g, with F summed over states and actions, as far as its quadratic trust region reaches; and so nearly in KL.

    The draws that the Fisher matrix is estimated by are replaced by each action in turn: then there is no noise in it.
    """
    algorithm = ACKTR(lr=1e9, max_kl=1e-4, damping=1e-14, entropy_weight=0.0)
    agent, data = ActorCritic(OBS, SPACES["discrete"], width=0, net=linear).double(), bandit()
    agent.policy.sample = lambda out, rng: data.action
    before = copy.deepcopy(agent)
    optimizers = algorithm.optimizers(agent)
    algorithm.update(agent, optimizers, data, alone())
    step = torch.cat([p.detach().flatten() for p in agent.actor.parameters()])  # the start was 0
    obs, action = data.obs[:-1].flatten(0, 1), data.action.flatten()
    weights = list(before.actor.parameters())
    logp = before.logits(obs).log_softmax(-1)
    score = [
        [torch.cat([g.flatten() for g in torch.autograd.grad(x, weights, retain_graph=True)]) for x in row]
        for row in logp
    ]
    F = sum(
        p.exp() * torch.outer(s, s)
        for row, ss in zip(logp.detach(), score, strict=True)
        for p, s in zip(row, ss, strict=True)
    )
    F = F / len(obs)
    advantage = standardised(data.reward).flatten()  # the critic's values are 0
    g = sum(a * score[i][k] for i, (k, a) in enumerate(zip(action.tolist(), advantage, strict=True))) / len(obs)
    path = torch.linalg.pinv(F, hermitian=True, rtol=1e-10) @ g
    expected = path * (2e-4 / path.dot(F @ path)).sqrt()
    torch.testing.assert_close(step, expected, rtol=1e-4, atol=1e-7)
    kl = agent.policy.kl(before.logits(obs), agent.logits(obs)).mean()
    assert float(kl) == pytest.approx(1e-4, rel=0.05)


@pytest.mark.parametrize("value_max_kl", [1e9, 1e-3])
def test_a_linear_critic_is_solved_in_one_step(monkeypatch, value_max_kl):
    """Least squares, by a whole step; or the part of it that moves values by the share of their errors that is allowed."""
    algorithm = ACKTR(value_lr=1.0, value_max_kl=value_max_kl, damping=1e-14, anneal=False)
    agent, data = ActorCritic(OBS, SPACES["discrete"], width=0, net=linear).double(), bandit()
    monkeypatch.setattr(
        acktr, "normal", lambda out, rng: torch.ones_like(out)
    )  # the second moment of a normal, exactly
    algorithm.update(agent, algorithm.optimizers(agent), data, alone())
    rows = torch.cat([data.obs[:-1].flatten(0, 1), torch.ones(24, 1)], 1)
    best = rows @ torch.linalg.lstsq(rows, data.reward.flatten()[:, None]).solution.squeeze(-1)
    allowed = (2 * value_max_kl * data.reward.square().mean() / best.square().mean()).sqrt().clamp(max=1.0)
    value = agent.value(data.obs[:-1]).flatten()
    torch.testing.assert_close(value, allowed * best, rtol=1e-4, atol=1e-6)
    assert (allowed < 1) == (value_max_kl < 1)


SEEN: list[float] = []


@dataclass(frozen=True)
class Watched(ACKTR):
    """Notes how far each update moves the policy, exactly."""

    def update(self, agent, optimizers, data, world):
        before = copy.deepcopy(agent)
        log = super().update(agent, optimizers, data, world)
        with torch.no_grad():
            out = before.logits(data.obs[:-1]), agent.logits(data.obs[:-1])
            SEEN.append(float(agent.policy.kl(*out, before.policy).mean()))
        return log


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_steps_move_the_policy_about_as_far_as_they_may(env):
    """By a network with hidden layers and factors from the batch's own draws, the median within a factor of 2, none beyond 4.

    K-FAC's model leaves out what layers do together. With running factors, which lag, steps go several times as far.
    """
    SEEN.clear()
    algorithm = Watched(lr=1e9, max_kl=2e-3, decay=0.0, anneal=False, invert_every=1, width=32)
    play.play(Play(algorithm, env, steps=10_000, envs=8, eval_episodes=1), seed=0, run=Memory())
    kls = np.array(SEEN) / 2e-3
    assert len(kls) > 50
    assert 0.5 < np.median(kls) < 2
    assert kls.max() < 4


@pytest.mark.parametrize("kind", SPACES)
def test_gradients_are_of_the_losses(kind):
    """What K-FAC is handed is the gradient of the policy's and of the value's loss, whatever was observed for its matrices."""
    algorithm = ACKTR(width=4, gamma=0.875, lam=0.75, entropy_weight=0.3)
    agent, data = built(algorithm, SPACES[kind]), invented(SPACES[kind])
    before = copy.deepcopy(agent)
    optimizers = algorithm.optimizers(agent)
    algorithm.update(agent, optimizers, data, alone())
    obs, value = data.obs[:-1], before.value(data.obs[:-1])
    advantage = algorithm.advantage(before, value.detach(), data)
    out = before.logits(obs)
    loss = (
        -(before.policy.log_prob(out, data.action) * standardised(advantage)).mean()
        - 0.3 * before.policy.entropy(out).mean()
    )
    parts = {"policy": (loss, [*before.actor.parameters(), *before.policy.parameters()])}
    parts["value"] = ((value - (value + advantage).detach()).square().mean() / 2, list(before.critic.parameters()))
    for name, (of, parameters) in parts.items():
        expected = torch.cat([g.flatten() for g in torch.autograd.grad(of, parameters)])
        torch.testing.assert_close(optimizers[name].gradient, expected)


SCREEN = gym.spaces.Box(0, 255, (2, 36, 36), np.uint8)


@pytest.mark.parametrize("kind", SPACES)
def test_images_are_learned_from_by_networks_of_their_own(kind, seeded):
    """From steps as a game's, the step size without bound: each layer of both moves, the policy about as far as it may in nats.

    Within a factor of 10: moves of 5 layers, which K-FAC's model keeps apart, can add up to 5 times of what it says.
    """
    algorithm = ACKTR(lr=1e9, max_kl=1e-3, anneal=False)
    agent = algorithm.build(SCREEN, SPACES[kind])
    rng = torch.Generator().manual_seed(0)
    data = invented(SPACES[kind], T=4, B=3)
    screens = [
        torch.randint(256, (*n, *SCREEN.shape), generator=rng, dtype=torch.uint8)
        for n in ((5, 3), (len(data.last_obs),))
    ]
    action = data.action.float() if kind == "box" else data.action
    data = data._replace(obs=screens[0], last_obs=screens[1], action=action, reward=data.reward.float())
    before = copy.deepcopy(agent)
    log = algorithm.update(agent, algorithm.optimizers(agent), data, alone())
    assert all(x.isfinite() for x in log.values())
    for (name, p), q in zip(agent.named_parameters(), before.parameters(), strict=True):
        assert not torch.equal(p, q), name
    assert sum("actor.layers.0" in name or "critic.layers.0" in name for name, _ in agent.named_parameters()) == 4
    with torch.no_grad():
        kl = agent.policy.kl(before.logits(data.obs[:-1]), agent.logits(data.obs[:-1]), before.policy).mean()
    assert 1e-4 < float(kl) < 1e-2
