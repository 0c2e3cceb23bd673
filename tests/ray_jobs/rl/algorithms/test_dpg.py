"""DPG on the linear-quadratic cart, whose policy gradient is known, and its compatible critic against theorem 3."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from ray_jobs.envs import lqr
from ray_jobs.rl.algorithms.off_policy.dpg import DPG, DPGAgent, linearised
from ray_jobs.rl.contract import Alone, Transitions
from tests.ray_jobs.rl.algorithms.by_hand import BOX, OBS, batch, chained
from tests.ray_jobs.rl.gradients import gradient_of

WORLD = Alone(torch.Generator())
CART = lqr.pendulum_like()
GAIN = np.array([[1.0, 0.5]])


class Quadratic(nn.Module):
    """V(x) = -(x'Px + the rest), the true one of a gain."""

    def __init__(self, gain):
        super().__init__()
        p = lqr.value_matrix(CART, gain)
        self.p = nn.Parameter(torch.from_numpy(p).float())
        self.rest = nn.Parameter(torch.tensor(CART.gamma / (1 - CART.gamma) * np.trace(p @ CART.noise)).float())

    def forward(self, x):
        return -((x @ self.p) * x).sum(-1) - self.rest


def on_the_cart(gain):
    """A linear actor u = -K x, the true V, and w by which the critic's slope is the true one: dQ/du = 2 E x = J(x) w."""
    actor = nn.Linear(2, 1, bias=False)
    actor.weight.data = torch.from_numpy(-gain).float()
    agent = DPGAgent(actor, 2, 4)
    agent.critic.value, agent.slow = Quadratic(gain), Quadratic(gain)
    agent.critic.w.data = torch.from_numpy(2 * lqr.action_gradient(CART, gain).ravel()).float()
    return agent


def at_the_visits(gain, away):
    """States whose second moment is that of the discounted visits, exactly; actions at `away` on either side; next states without noise,
    whose share of the next state's value is in the reward: the expectation over it."""
    moment = lqr.visits(CART, gain)
    root = np.linalg.cholesky(moment / np.trace(moment)) * np.sqrt(2)  # columns; their mean square is the moment
    x = np.concatenate([root.T, root.T])
    u = -x @ gain.T + np.array([[away], [away], [-away], [-away]])
    p = lqr.value_matrix(CART, gain)
    reward = -((x @ CART.Q) * x).sum(-1) - ((u @ CART.R) * u).sum(-1) - CART.gamma * np.trace(p @ CART.noise)
    after, one = x @ CART.A.T + u @ CART.B.T, np.ones(len(x))
    return Transitions(*(torch.from_numpy(z).float() for z in (x, u, reward, after, CART.gamma * one, one)), {})


@pytest.mark.parametrize("gain", [GAIN, np.array([[0.2, 0.1]]), np.array([[3.0, 2.0]])], ids=str)
def test_with_the_true_critic_it_is_the_true_policy_gradient(gain):
    """Exactly: over states with the second moment of the discounted visits, of mean square 1 here. theta = -K."""
    algorithm, agent = DPG(patience=0, gamma=CART.gamma), on_the_cart(gain)
    optimizers = algorithm.optimizers(agent)
    algorithm.update(agent, optimizers, at_the_visits(gain, 0.5), WORLD)
    true = -lqr.policy_gradient(CART, gain).ravel() / np.trace(lqr.visits(CART, gain))
    np.testing.assert_allclose(-gradient_of(agent.actor), true, rtol=1e-4, atol=1e-5)


def test_at_the_best_gain_nothing_pulls():
    algorithm, agent = DPG(patience=0), on_the_cart(lqr.best_gain(CART))
    optimizers = algorithm.optimizers(agent)
    algorithm.update(agent, optimizers, at_the_visits(lqr.best_gain(CART), 0.5), WORLD)
    assert gradient_of(agent.actor).abs().max() < 1e-4


def test_the_true_slope_is_where_q_learning_rests():
    """Actions far on either side: delta is then the curvature of Q alone, R + gamma B'PB times their square, and w's steps cancel."""
    algorithm, agent = DPG(gamma=CART.gamma), on_the_cart(GAIN)
    optimizers = algorithm.optimizers(agent)
    stats = algorithm.update(agent, optimizers, at_the_visits(GAIN, 0.5), WORLD)
    curvature = (CART.R + CART.gamma * CART.B.T @ lqr.value_matrix(CART, GAIN) @ CART.B).item()
    assert float(stats["td_loss"]) == pytest.approx((0.25 * curvature) ** 2, rel=1e-3)
    assert gradient_of(agent.critic)[:2].abs().max() < 1e-5
    wrong = on_the_cart(GAIN)
    wrong.critic.w.data += 0.1
    optimizers = algorithm.optimizers(wrong)
    algorithm.update(wrong, optimizers, at_the_visits(GAIN, 0.5), WORLD)
    assert gradient_of(wrong.critic)[:2].abs().min() > 1e-3


def test_q_learning_finds_the_true_slope_from_none():
    """w from 0, V and the actor held still: least squares over actions on either side give dQ/du = 2 E x."""
    algorithm, agent = DPG(gamma=CART.gamma, critic_lr=0.05, patience=10_000), on_the_cart(GAIN)
    agent.critic.w.data.zero_()
    agent.critic.value.requires_grad_(False)
    true, data = 2 * lqr.action_gradient(CART, GAIN).ravel(), at_the_visits(GAIN, 0.5)
    optimizers = algorithm.optimizers(agent)
    v = agent.critic.value
    held = [p.clone() for p in v.parameters()]
    for _ in range(400):
        algorithm.update(agent, optimizers, data, WORLD)
        for p, q in zip(v.parameters(), held, strict=True):
            p.data.copy_(q)
    np.testing.assert_allclose(agent.critic.w.detach(), true, rtol=0.01)


def jacobian(actor, obs):
    """[N, A, P], one output at a time."""
    parameters = list(actor.parameters())

    def row(y):
        return torch.cat([g.flatten() for g in torch.autograd.grad(y, parameters, retain_graph=True)])

    return torch.stack([torch.stack([row(y) for y in out]) for out in actor(obs).flatten(1)])


@pytest.mark.parametrize("width", [0, 8])
def test_products_with_the_jacobian(width, seeded):
    agent, data = DPG(actor_width=width).build(OBS, BOX), batch(6)
    J = jacobian(agent.actor, data.obs)
    w, x = torch.randn(J.shape[-1]), torch.randn(6, 2)
    pushed, pull = linearised(agent.actor(data.obs), list(agent.actor.parameters()), w)
    torch.testing.assert_close(pushed, J @ w)
    torch.testing.assert_close(pull(x), torch.einsum("nap,na->p", J, x))


@pytest.mark.parametrize("width", [0, 6])
def test_a_compatible_critic_may_stand_for_the_true_one(width, seeded):
    """Theorem 3: with w of least mean |J w - dQ/da|^2, both give the same policy gradient, for any actor and any dQ/da."""
    agent, data, truth = DPG(actor_width=width).build(OBS, BOX), batch(9), torch.randn(9, 2)
    agent.actor.net[-1].weight.data.mul_(50)  # it begins by doing little
    J = jacobian(agent.actor, data.obs).double()
    agent.critic.w.data = torch.linalg.lstsq(J.flatten(0, 1), truth.double().flatten(), driver="gelsd").solution.float()
    algorithm = DPG(actor_width=width, patience=0)
    optimizers, true = algorithm.optimizers(agent), chained(agent.actor, truth, data.obs)
    algorithm.update(agent, optimizers, data, WORLD)
    torch.testing.assert_close(-gradient_of(agent.actor), true, atol=1e-4, rtol=1e-3)


def test_the_critic_moves_as_the_paper_says(seeded):
    """delta dV and delta phi, row by row, with phi = J' (a - mu); the actor waits for its turn."""
    algorithm = DPG(actor_width=6, patience=1)
    agent, data = algorithm.build(OBS, BOX), batch(7)
    agent.critic.w.data.normal_()
    agent.slow.requires_grad_(False)
    J, mu = jacobian(agent.actor, data.obs), agent.actor(data.obs).detach()
    expected = 0.0
    for i in range(7):
        phi = J[i].t() @ (data.action[i] - mu[i])
        v = agent.critic.value(data.obs[i : i + 1])[0]
        delta = data.reward[i] + data.discount[i] * agent.slow(data.next_obs[i : i + 1])[0] - (v + phi @ agent.critic.w)
        up = torch.cat([g.flatten() for g in torch.autograd.grad(v, list(agent.critic.value.parameters()))])
        expected = expected + delta.detach() * torch.cat([phi, up]) / 7
    optimizers = algorithm.optimizers(agent)
    algorithm.update(agent, optimizers, data, WORLD)
    torch.testing.assert_close(-gradient_of(agent.critic), expected)
    assert not gradient_of(agent.actor).any()
    algorithm.update(agent, optimizers, data, WORLD)
    assert gradient_of(agent.actor).any()


def test_an_unbounded_box_is_refused():
    with pytest.raises(ValueError, match="finite bounds"):
        DPG().build(OBS, gym.spaces.Box(-np.inf, np.inf, (2,)))
