"""DDPG against its definition: targets row by row, the chain rule, and the slow copies' recursion."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from ray_jobs.rl.algorithms.off_policy.ddpg import DDPG
from ray_jobs.rl.contract import Alone
from tests.ray_jobs.rl.algorithms.by_hand import (
    OBS,
    action,
    batch,
    chained,
    copies,
    critic,
    regressed,
    started,
)
from tests.ray_jobs.rl.gradients import gradient_of

WORLD = Alone(torch.Generator())


def test_targets_are_those_of_the_definition():
    """r + discount * Q'(s', mu'(s')), row by row; nothing follows a step that ended its task."""
    algorithm, data = DDPG(width=8), batch(20)
    agent, _ = started(algorithm)
    expected = []
    for i in range(20):
        q = critic(agent.slow_critics, 0, data.next_obs[i], action(agent.slow_actor, data.next_obs[i]))[0]
        expected.append(float(data.reward[i]) + float(data.discount[i]) * q)
    target = algorithm.target(agent, data)
    np.testing.assert_allclose(target, expected, atol=1e-5)
    assert torch.equal(target[::3], data.reward[::3])


def test_the_critic_regresses_and_the_actor_climbs_it():
    """Gradients by the chain rule, one row at a time; the actor's is of the critic after its step."""
    algorithm, data = DDPG(width=8), batch(12)
    (agent, optimizers), (twin, _) = started(algorithm), started(algorithm)
    error = (twin.critics(data.obs, data.action) - algorithm.target(twin, data)).detach()
    stats = algorithm.update(agent, optimizers, data, WORLD)
    torch.testing.assert_close(gradient_of(agent.critics), 2 * regressed(twin.critics, error, data))
    torch.testing.assert_close(stats["td_loss"], error.square().mean())

    a = twin.actor(data.obs).detach().requires_grad_()
    (slope,) = torch.autograd.grad(agent.critics(data.obs, a).sum(), a)
    torch.testing.assert_close(gradient_of(agent.actor), -chained(twin.actor, slope, data.obs))


def test_slow_copies_follow_by_their_recursion():
    algorithm = DDPG(width=8, tau=0.1)
    agent, optimizers = started(algorithm)
    slow = [x.double() for x in (*copies(agent.slow_actor), *copies(agent.slow_critics))]
    for k in range(5):
        algorithm.update(agent, optimizers, batch(16, seed=k), WORLD)
        now = (*copies(agent.actor), *copies(agent.critics))
        slow = [0.9 * old + 0.1 * new for old, new in zip(slow, now, strict=True)]
    found = (*copies(agent.slow_actor), *copies(agent.slow_critics))
    for x, y in zip(found, slow, strict=True):
        torch.testing.assert_close(x.double(), y, atol=1e-6, rtol=1e-5)


def test_an_unbounded_box_is_refused():
    with pytest.raises(ValueError, match="finite bounds"):
        DDPG().build(OBS, gym.spaces.Box(-np.inf, np.inf, (2,)))
