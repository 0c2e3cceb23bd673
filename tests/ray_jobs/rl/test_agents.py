"""Agents: one pass gives what the parts give, and shared layers start as networks apart would."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from ray_jobs.rl.agents import ActorCritic

OBS = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("action", [gym.spaces.Discrete(3), gym.spaces.Box(-1.0, 1.0, (2,), np.float32)])
def test_one_pass_is_both(action, shared, seeded):
    agent, obs = ActorCritic(OBS, action, width=16, shared=shared), torch.randn(5, 7, 4)
    out, value = agent(obs)
    assert out.shape == (5, 7, agent.policy.outputs)
    assert value.shape == (5, 7)
    torch.testing.assert_close(out, agent.logits(obs))
    torch.testing.assert_close(value, agent.value(obs))


@pytest.mark.parametrize("shared", [False, True])
def test_the_policy_begins_indifferent_and_the_value_does_not(shared, seeded):
    """The last layer's gain is 0.01 for the policy and 1 for the value: numbers of a hundredth of the size."""
    agent = ActorCritic(OBS, gym.spaces.Discrete(3), width=64, shared=shared)
    out, value = agent(torch.randn(1000, 4))
    assert 0.2 < value.std() < 3
    assert out.std() < 0.03


def test_shared_layers_learn_from_both(seeded):
    agent = ActorCritic(OBS, gym.spaces.Discrete(3), width=16, shared=True)
    out, value = agent(torch.randn(9, 4))
    first = agent.both.layers[0].weight
    (of_policy,) = torch.autograd.grad(out.square().sum(), first, retain_graph=True)
    (of_value,) = torch.autograd.grad(value.square().sum(), first)
    assert of_policy.abs().sum() > 0
    assert of_value.abs().sum() > 0
