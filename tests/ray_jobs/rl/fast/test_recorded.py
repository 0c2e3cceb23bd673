"""Recorded calls of networks: the gradients of an update are those of autograd's graph."""

import threading

import pytest
import torch

from ray_jobs.rl.fast.recorded import recorded_calls, run_backward
from ray_jobs.rl.networks.critics import Ensemble
from ray_jobs.rl.networks.nets import ReLUMLP, TanhMLP
from ray_jobs.rl.optim.step import adam


def gradient(net, loss, *, recorded):
    """The gradient that an optimiser of the network's parameters has after one call of `differentiate`."""
    optimizer = adam(net, 1e-3)
    if recorded:
        with recorded_calls():
            optimizer.differentiate(loss())
    else:
        optimizer.differentiate(loss())
    return optimizer.gradient.clone()


@pytest.mark.parametrize("build", [ReLUMLP, TanhMLP])
def test_recorded_gradients_are_those_of_the_graph(build):
    torch.manual_seed(0)
    net, x, y = build([3, 8, 8, 2]), torch.randn(5, 3), torch.randn(4, 6, 3)

    def loss():  # two calls of one network in one loss, of inputs of different shapes
        return net(x).square().sum() + net(y).exp().mean()

    torch.testing.assert_close(gradient(net, loss, recorded=True), gradient(net, loss, recorded=False))


def test_recorded_and_other_calls_of_one_network_add_up():
    torch.manual_seed(0)
    net, x, start = Ensemble(2, [4, 8, 1]), torch.randn(5, 4), torch.randn(5, 4)

    def loss():  # the second call's input has a gradient, so the call stays in the graph
        return net(x).square().sum() + net(start.requires_grad_() * 2).exp().mean()

    torch.testing.assert_close(gradient(net, loss, recorded=True), gradient(net, loss, recorded=False))


def test_calls_are_kept_until_a_loss_depends_on_them():
    torch.manual_seed(0)
    first, second, x = ReLUMLP([3, 8, 1]), ReLUMLP([3, 8, 1]), torch.randn(5, 3)
    optimizers = [adam(net, 1e-3) for net in (first, second)]
    with recorded_calls():
        outs = [first(x), second(x)]
        for out, optimizer in zip(outs, optimizers, strict=True):
            optimizer.differentiate(out.square().mean())
    for net, optimizer in zip((first, second), optimizers, strict=True):
        expected = gradient(net, lambda net=net: net(x).square().mean(), recorded=False)
        torch.testing.assert_close(optimizer.gradient, expected)


def test_a_thread_records_its_own_calls_alone():
    """Learners of one process may be threads. One ends its update between another's call of a network and `differentiate`."""
    torch.manual_seed(0)
    net, x, recorded, ended = ReLUMLP([3, 8, 1]), torch.randn(5, 3), threading.Event(), threading.Event()

    def another_update():
        with recorded_calls():
            recorded.wait(60)
        ended.set()

    def loss():
        out = net(x)
        recorded.set()
        assert ended.wait(60)
        return out.square().mean()

    thread = threading.Thread(target=another_update)
    thread.start()
    found = gradient(net, loss, recorded=True)
    thread.join(60)
    torch.testing.assert_close(found, gradient(net, loss, recorded=False))


def test_the_engine_alone_differentiates_as_backward_does():
    """`run_backward` calls an interface of torch that is not public: this fails when that changes."""
    torch.manual_seed(0)
    net, x = ReLUMLP([3, 8, 1]), torch.randn(5, 3)
    net(x).square().mean().backward()
    expected = [p.grad for p in net.parameters()]
    net.zero_grad()
    run_backward(net(x).square().mean())
    for p, grad in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, grad, rtol=0, atol=0)
