"""A whole update of PPO against its equations written with torch.autograd: the same minibatches, other code."""

import copy
from dataclasses import replace

import pytest
import torch

from ray_jobs.rl.algorithms.policy_gradient.ppo import PPO
from tests.ray_jobs.rl.algorithms import plain
from tests.ray_jobs.rl.algorithms.invented import SPACES, advantages, alone, built, invented, standardised

SMALL = PPO(width=4, epochs=3, minibatches=2, lr=0.02, max_norm=0.3, gamma=0.875, lam=0.75)
VARIANTS = {
    "clip": SMALL,
    "one minibatch, nothing standardised": replace(
        SMALL, minibatches=1, normalize_advantage=False, max_norm=float("inf")
    ),
    "shared layers, entropy, clipped values": replace(
        SMALL, shared=True, entropy_weight=0.1, value_clip=0.05, clip=0.02
    ),
}


def by_definition(algorithm, agent, data, world):
    """Algorithm 1 with equations 7 and 9; the agent is moved. Returns the last losses."""
    optimizer = plain.Steps(agent, lr=algorithm.lr, eps=1e-5, max_norm=algorithm.max_norm)
    advantage, value = advantages(data, lambda obs: plain.actor_critic(agent, obs)[1], algorithm.gamma, algorithm.lam)
    advantage, old_value = advantage.flatten(), value.flatten()
    obs, action = data.obs[:-1].flatten(0, 1), data.action.flatten(0, 1)
    with torch.no_grad():
        old = plain.distribution(agent.policy, plain.actor_critic(agent, obs)[0]).log_prob(action)
    for _ in range(algorithm.epochs):
        n = len(old)
        order = torch.randperm(n, generator=world.rng) if algorithm.minibatches > 1 else torch.arange(n)
        for rows in order.chunk(algorithm.minibatches):
            out, v = plain.actor_critic(agent, obs[rows])
            pi = plain.distribution(agent.policy, out)
            gain = standardised(advantage[rows]) if algorithm.normalize_advantage else advantage[rows]
            ratio = torch.exp(pi.log_prob(action[rows]) - old[rows])
            low, high = 1 - algorithm.clip, 1 + algorithm.clip
            policy = (
                -torch.where(gain > 0, torch.min(ratio, ratio * 0 + high), torch.max(ratio, ratio * 0 + low)) * gain
            )
            target = (advantage + old_value)[rows]
            error = (v - target) ** 2
            if algorithm.value_clip:
                near = old_value[rows] + (v - old_value[rows]).clamp(-algorithm.value_clip, algorithm.value_clip)
                error = torch.max(error, (near - target) ** 2)
            loss = (
                policy.mean() + algorithm.value_weight * error.mean() - algorithm.entropy_weight * pi.entropy().mean()
            )
            optimizer.down(loss)
    return policy.mean(), error.mean()


@pytest.mark.parametrize("kind", ["discrete", "box"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_an_update_is_algorithm_1_with_equations_7_and_9(variant, kind):
    algorithm = VARIANTS[variant]
    agent, data = built(algorithm, SPACES[kind]), invented(SPACES[kind])
    twin = copy.deepcopy(agent)
    log = algorithm.update(agent, algorithm.optimizers(agent), data, alone())
    policy, error = by_definition(algorithm, twin, data, alone())
    plain.same(agent, twin)
    torch.testing.assert_close(log["policy_loss"], policy.detach())
    torch.testing.assert_close(log["value_loss"], error.detach())


def test_the_clip_stops_gradients_in_this_very_test():
    """Of the variants above, some ratios must leave the trust region, and some within it must count."""
    algorithm = VARIANTS["clip"]
    agent, data = built(algorithm, SPACES["discrete"]), invented(SPACES["discrete"])
    obs, action = data.obs[:-1].flatten(0, 1), data.action.flatten()
    before = agent.policy.log_prob(agent.logits(obs), action).detach()
    algorithm.update(agent, algorithm.optimizers(agent), data, alone())
    moved = (agent.policy.log_prob(agent.logits(obs), action) - before).exp()
    assert ((moved - 1).abs() > algorithm.clip).any() and ((moved - 1).abs() < algorithm.clip).any()
