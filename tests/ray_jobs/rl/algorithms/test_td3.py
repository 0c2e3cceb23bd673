"""TD3 against its definition: targets row by row, the chain rule, what waits for the actor, and the slow copies' recursion."""

import numpy as np
import pytest
import torch

from ray_jobs.rl.algorithms.off_policy.td3 import TD3
from ray_jobs.rl.contract import Alone
from tests.ray_jobs.rl.algorithms.by_hand import (
    BOX,
    action,
    batch,
    chained,
    copies,
    critic,
    regressed,
    same,
    started,
)
from tests.ray_jobs.rl.gradients import gradient_of


def world(seed: int) -> Alone:
    return Alone(torch.Generator().manual_seed(seed))


def by_definition(algorithm, agent, data, noise):
    """r + discount * min_i Q'_i(s', clip(mu'(s') + clip(noise))) [N]; standard normal noise [N, A] is told in halves of the range."""
    found, half = [], (BOX.high - BOX.low) / 2
    for i in range(len(noise)):
        eps = np.clip(algorithm.smoothing * noise[i], -algorithm.smoothing_clip, algorithm.smoothing_clip)
        a = np.clip(action(agent.slow_actor, data.next_obs[i]) + eps * half, BOX.low, BOX.high)
        q = min(critic(agent.slow_critics, k, data.next_obs[i], a)[0] for k in range(2))
        found.append(float(data.reward[i]) + float(data.discount[i]) * q)
    return np.array(found)


@pytest.mark.parametrize("clip", [0.5, 0.05])
def test_targets_are_those_of_the_definition(clip):
    algorithm, data = TD3(width=8, smoothing_clip=clip), batch(20)
    agent, _ = started(algorithm)
    noise = torch.empty(20, 2).normal_(generator=world(5).rng).numpy()
    target = algorithm.target(agent, data, world(5).rng)
    np.testing.assert_allclose(target, by_definition(algorithm, agent, data, noise), atol=1e-5)


def test_both_critics_regress_on_one_target_and_the_actor_climbs_the_first():
    """Gradients of the two losses by the chain rule, one row at a time."""
    algorithm, data = TD3(width=8, delay=1), batch(12)
    (agent, optimizers), (twin, _) = started(algorithm), started(algorithm)
    target = algorithm.target(twin, data, world(0).rng)
    error = (twin.critics(data.obs, data.action) - target).detach()
    stats = algorithm.update(agent, optimizers, data, world(0))
    torch.testing.assert_close(gradient_of(agent.critics), 2 * regressed(twin.critics, error, data))
    torch.testing.assert_close(stats["td_loss"], error.square().mean(1).sum())

    a = twin.actor(data.obs).detach().requires_grad_()
    (slope,) = torch.autograd.grad(agent.critics(data.obs, a)[0].sum(), a)
    torch.testing.assert_close(gradient_of(agent.actor), -chained(twin.actor, slope, data.obs))


@pytest.mark.parametrize("delay", [1, 2, 3])
def test_the_actor_and_the_slow_copies_move_every_so_many_updates(delay):
    """The actor only then, and the copies by their recursion theta' <- tau theta + (1 - tau) theta'."""
    algorithm = TD3(width=8, delay=delay, tau=0.1)
    agent, optimizers = started(algorithm)
    slow = [x.double() for x in (*copies(agent.slow_actor), *copies(agent.slow_critics))]
    for k in range(1, 8):
        actor, critics = copies(agent.actor), copies(agent.critics)
        algorithm.update(agent, optimizers, batch(16, seed=k), world(k))
        assert same(agent.actor, actor) == (k % delay != 0)
        assert not same(agent.critics, critics)
        if k % delay == 0:
            now = (*copies(agent.actor), *copies(agent.critics))
            slow = [0.9 * old + 0.1 * new for old, new in zip(slow, now, strict=True)]
        found = (*copies(agent.slow_actor), *copies(agent.slow_critics))
        for x, y in zip(found, slow, strict=True):
            torch.testing.assert_close(x.double(), y, atol=1e-6, rtol=1e-5)
