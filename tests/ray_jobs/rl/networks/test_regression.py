"""Huber's loss of chosen outputs: recorded, and in autograd's graph."""

import pytest
import torch

from ray_jobs.rl.fast.recorded import backward, recorded_calls
from ray_jobs.rl.networks.nets import ReLUMLP
from ray_jobs.rl.networks.regression import huber_of_chosen
from ray_jobs.rl.optim.step import adam

N = 40


@pytest.mark.parametrize("width", [0.3, 1.0, 50.0])
def test_loss_and_gradient_are_those_of_autograd(width, seeded):
    net, obs, action = ReLUMLP([3, 8, 4]).double(), torch.randn(N, 3).double(), torch.randint(4, (N,))
    target, weight = torch.randn(N).double(), torch.rand(N).double()
    optimizer, scale = adam(net, 1e-3), 3.0

    def found():
        loss, chosen = huber_of_chosen(net(obs), action, target, weight, width)
        optimizer.differentiate(scale * loss)
        return loss.detach(), chosen, optimizer.gradient.clone()

    plain = found()
    with recorded_calls():
        recorded = found()
    error = plain[1] - target
    by_hand = torch.where(error.abs() < width, error**2 / 2, width * (error.abs() - width / 2))
    torch.testing.assert_close(plain[0], (weight * by_hand).sum() / N)
    torch.testing.assert_close(recorded, plain)
    assert not (recorded[1].requires_grad or plain[1].requires_grad)


def test_a_recorded_loss_adds_to_what_else_depends_on_the_outputs(seeded):
    net, obs, action = ReLUMLP([3, 8, 4]), torch.randn(N, 3), torch.randint(4, (N,))
    target, optimizer, found = torch.randn(N), adam(net, 1e-3), []
    for recorded in (False, True):
        optimizer.gradient.zero_()
        if recorded:
            with recorded_calls():
                q = net(obs)
                backward(huber_of_chosen(q, action, target, torch.ones(N), 1.0)[0] + q.square().mean())
        else:
            q = net(obs)
            backward(huber_of_chosen(q, action, target, torch.ones(N), 1.0)[0] + q.square().mean())
        found.append(optimizer.gradient.clone())
    torch.testing.assert_close(*found)
