"""A gradient step through fused networks against autograd through the same layers written plainly."""

import copy

import pytest
import torch
from gymnasium.spaces import Box
from torch import nn
from torch.nn import functional as F

from ray_jobs.rl.contract import Alone
from ray_jobs.rl.fast import layers
from ray_jobs.rl.networks.agents import ActorCritic
from ray_jobs.rl.networks.critics import Ensemble
from ray_jobs.rl.networks.nets import ConvNet, ReLUMLP, TanhMLP
from ray_jobs.rl.optim.flat import shrink
from ray_jobs.rl.optim.step import adam, gradient_step

NETS = {
    "relu": (lambda: ReLUMLP([5, 16, 8, 3]), lambda: (torch.randn(20, 5),)),
    "tanh": (lambda: TanhMLP([5, 16, 8, 3]), lambda: (torch.randn(20, 5),)),
    "tanh of sequences": (lambda: TanhMLP([5, 16, 8, 3]), lambda: (torch.randn(4, 5, 5),)),
    "linear": (lambda: ReLUMLP([5, 3]), lambda: (torch.randn(20, 5),)),
    "values": (lambda: Ensemble(2, [5, 16, 8, 1]), lambda: (torch.randn(20, 3), torch.randn(20, 2))),
    "distributions": (lambda: Ensemble(3, [5, 16, 7]), lambda: (torch.randn(20, 3), torch.randn(20, 2))),
    "images": (lambda: ConvNet((2, 6, 6), 3), lambda: (torch.randint(256, (4, 2, 6, 6), dtype=torch.uint8),)),
}


def plainly(net, *inputs):
    """The network by torch's own operations, each differentiated by autograd."""
    if isinstance(net, ConvNet):
        return net(*inputs)
    if isinstance(net, Ensemble):
        x = torch.cat(inputs, 1)
        each = [(list(net.weights), list(net.biases), i) for i in range(net.n)]
        out = torch.stack([chain(x, [w[i].t() for w in ws], [b[i, 0] for b in bs], F.relu) for ws, bs, i in each])
        return out.squeeze(-1) if out.shape[-1] == 1 else out
    linear = [m for m in net.modules() if isinstance(m, nn.Linear)]
    act = torch.tanh if isinstance(net, TanhMLP) else F.relu
    return chain(inputs[0], [m.weight for m in linear], [m.bias for m in linear], act)


def chain(x, weights, biases, act):
    for k, (w, b) in enumerate(zip(weights, biases, strict=True)):
        x = F.linear(x, w, b)
        x = act(x) if k < len(weights) - 1 else x
    return x


def same_gradients(ours, theirs):
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("max_norm", [float("inf"), 0.05])
@pytest.mark.parametrize("kind", NETS)
def test_a_gradient_step_is_autograds(kind, max_norm, seeded):
    """Twice, for what the first step left in the gradient must not show in the second."""
    make, draw = NETS[kind]
    net, world = make(), Alone(torch.Generator())
    twin = copy.deepcopy(net)
    ours, theirs = adam(net, 0.01), adam(twin, 0.01)
    for _ in range(2):
        inputs = draw()
        target = torch.randn_like(net(*inputs))
        expected, out = plainly(twin, *inputs), net(*inputs)
        torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
        gradient_step((expected - target).square().mean(), theirs, world, max_norm)
        gradient_step((out - target).square().mean(), ours, world, max_norm)
        same_gradients(net, twin)


@pytest.mark.parametrize("make", [lambda: ReLUMLP([5, 16, 8, 3]), lambda: TanhMLP([5, 16, 8, 3])])
def test_a_network_may_be_called_twice_in_a_loss_and_its_weights_used_elsewhere(make, seeded):
    """Both calls' gradients add up, and those of a penalty on the weights and of a parameter outside the network."""
    net = nn.ModuleDict({"net": make()})
    net.scale = nn.Parameter(torch.ones(3))
    world, twin = Alone(torch.Generator()), copy.deepcopy(net)
    ours, theirs = adam(net, 0.01), adam(twin, 0.01)

    def loss(agent, first, second):
        penalty = sum(p.square().sum() for p in agent["net"].parameters())
        return (first * agent.scale).cos().sum() + second.square().sum() + 0.1 * penalty

    for _ in range(2):
        x, y = torch.randn(2, 20, 5)
        gradient_step(loss(twin, plainly(twin["net"], x), plainly(twin["net"], y)), theirs, world)
        gradient_step(loss(net, net["net"](x), net["net"](y)), ours, world)
        same_gradients(net, twin)


def test_other_ways_to_differentiate_see_the_same_gradient(seeded):
    """torch.autograd.grad and a plain backward, which adds to what is there."""
    net, x = TanhMLP([5, 16, 3]), torch.randn(20, 5)
    expected = torch.autograd.grad(plainly(net, x).cos().sum(), list(net.parameters()))
    torch.testing.assert_close(torch.autograd.grad(net(x).cos().sum(), list(net.parameters())), expected)
    adam(net, 0.01)
    for k in (1, 2):
        net(x).cos().sum().backward()
        torch.testing.assert_close(tuple(p.grad for p in net.parameters()), tuple(k * g for g in expected))


@pytest.mark.parametrize("wanted", ["all", "inputs", "parameters"])
@pytest.mark.parametrize("laid", ["out, in", "in, out"])
@pytest.mark.parametrize("most", [1, 2, 5])
def test_many_networks_have_the_gradients_of_each(most, laid, wanted, seeded, monkeypatch):
    """Of five networks some at a time, whichever way their weights lie in memory; against torch's own layers."""
    monkeypatch.setattr(layers, "CACHED", most * 7 * 6)
    sizes, x = [(4, 6), (6, 3), (3, 2)], torch.randn(5, 7, 4, requires_grad=wanted != "parameters")
    numbers = [
        p.requires_grad_(wanted != "inputs")
        for i, o in sizes
        for p in (torch.randn(5, o, i) if laid == "out, in" else torch.randn(5, i, o).mT, torch.randn(5, o))
    ]
    asked = [p for p in (x, *numbers) if p.requires_grad]
    out = layers.fused(x, numbers, layers.TANH)
    loss = torch.randn_like(out)
    found = torch.autograd.grad((out * loss).sum(), asked)
    h = x
    for i, (weight, bias) in enumerate(zip(numbers[::2], numbers[1::2], strict=True)):
        h = torch.stack([nn.functional.linear(*each) for each in zip(h, weight, bias, strict=True)])
        h = h.tanh() if i < 2 else h
    torch.testing.assert_close(out, h, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found, torch.autograd.grad((h * loss).sum(), asked), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(layers.fused(x, numbers, layers.TANH), h)


@pytest.mark.parametrize("shared", [False, True])
def test_an_actor_critics_gradient_step_is_autograds(shared, seeded):
    agent = ActorCritic(Box(-1, 1, (5,)), Box(-1, 1, (2,)), width=8, shared=shared)
    world, twin = Alone(torch.Generator()), copy.deepcopy(agent)
    ours, theirs = adam(agent, 0.01), adam(twin, 0.01)

    def loss(agent, out, value):
        return (value - agent.policy.log_prob(out, torch.ones(20, 2))).square().mean()

    for _ in range(2):
        x = torch.randn(20, 5)
        both = plainly(twin.both, x) if shared else None
        out, value = (both[:, :-1], both[:, -1]) if shared else (plainly(twin.actor, x), plainly(twin.critic, x)[:, 0])
        gradient_step(loss(twin, out, value), theirs, world)
        gradient_step(loss(agent, *agent(x)), ours, world)
        same_gradients(agent, twin)


@pytest.mark.parametrize(("size", "norm"), [(3.0, 1.0), (0.5, 0.5), (0.0, 0.0), (1e15, 1.0)])
def test_a_gradient_is_shrunk_to_its_norm_and_never_grown(size, norm):
    gradient = torch.tensor([0.6, -0.8]) * size
    shrink(gradient, 1.0)
    torch.testing.assert_close(gradient, torch.tensor([0.6, -0.8]) * norm)


def test_a_gradient_that_is_not_finite_stays_so():
    for bad in (float("nan"), float("inf")):
        gradient = torch.tensor([1.0, bad])
        shrink(gradient, 1.0)
        assert not gradient.isfinite().all()
