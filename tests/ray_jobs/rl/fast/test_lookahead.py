"""Batches that were drawn together: a network with resting weights has the same outputs for them as one by one, in fewer calls."""

import copy

import gymnasium as gym
import pytest
import torch
from torch import nn

from ray_jobs.rl.algorithms.off_policy.dqn import DQN
from ray_jobs.rl.contract import Alone, Transitions
from ray_jobs.rl.fast.lookahead import evaluate, split_draw
from ray_jobs.rl.replay.windows import split

SIZE, BATCHES = 5, 7


class Counting(nn.Linear):
    """A network that counts its calls."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


def test_batches_are_evaluated_together_while_the_weights_rest(seeded):
    net, every = Counting(3, 2), 3
    for k, x in enumerate(split_draw(torch.randn(SIZE * BATCHES, 3), SIZE)):
        out = evaluate(net, x, every - k % every)
        torch.testing.assert_close(out, nn.functional.linear(x, net.weight, net.bias).detach())
        assert not out.requires_grad
        if k % every == every - 1:
            net.weight.data.mul_(-2)
    assert net.calls == 3


def test_two_networks_and_tensors_of_no_draw_have_their_own_outputs(seeded):
    first, second = Counting(3, 2), Counting(3, 2)
    x = split_draw(torch.randn(SIZE * BATCHES, 3), SIZE)[0]
    assert torch.equal(evaluate(first, x, 2), evaluate(first, x.clone(), 2))
    torch.testing.assert_close(evaluate(second, x, 2), second(x).detach())
    torch.testing.assert_close(evaluate(first, 2 * x, 2), first(2 * x).detach())


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("target_every", [1, 3, 100])
def test_dqn_learns_the_same_from_batches_of_one_draw(target_every, double, seeded):
    """The target network is overwritten within a draw, and between two."""
    algorithm = DQN(width=16, target_every=target_every, double=double, lr=0.05)
    agent = algorithm.build(gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(3))
    twin, world = copy.deepcopy(agent), Alone(torch.Generator())
    optimizers, plainly = algorithm.optimizers(agent), algorithm.optimizers(twin)
    for _ in range(2):
        n = SIZE * BATCHES
        obs, after = torch.randn(2, n, 2)
        data = Transitions(obs, torch.randint(3, (n,)), torch.randn(n), after, torch.full((n,), 0.9), torch.ones(n), {})
        for batch in split(data, SIZE):
            log = algorithm.update(agent, optimizers, batch, world)
            alone = algorithm.update(twin, plainly, batch._replace(next_obs=batch.next_obs.clone()), world)
            torch.testing.assert_close(log["td_loss"], alone["td_loss"])
    torch.testing.assert_close(agent.state_dict(), twin.state_dict())
