"""A step down a loss that is told by its gradient, against autograd's step down the loss itself."""

import copy

import pytest
import torch
from gymnasium.spaces import Box
from torch import nn

from ray_jobs.rl.contract import Alone
from ray_jobs.rl.fast import layers
from ray_jobs.rl.networks.agents import ActorCritic
from ray_jobs.rl.networks.critics import Ensemble
from ray_jobs.rl.networks.nets import ConvNet, TanhMLP, mlp
from ray_jobs.rl.optim.step import adam, clip, descend_along, gradient_step

NETS = {
    "relu": (lambda: mlp([5, 16, 8, 3], activation=nn.ReLU), lambda: (torch.randn(20, 5),)),
    "linear": (lambda: mlp([5, 3], activation=nn.ReLU), lambda: (torch.randn(20, 5),)),
    "values": (lambda: Ensemble(2, [5, 16, 8, 1]), lambda: (torch.randn(20, 3), torch.randn(20, 2))),
    "distributions": (lambda: Ensemble(3, [5, 16, 7]), lambda: (torch.randn(20, 3), torch.randn(20, 2))),
    "images": (lambda: ConvNet((2, 6, 6), 3), lambda: (torch.randint(256, (4, 2, 6, 6), dtype=torch.uint8),)),
}


@pytest.mark.parametrize("max_norm", [float("inf"), 0.05])
@pytest.mark.parametrize("kind", NETS)
def test_a_step_along_a_gradient_is_a_step_down_its_loss(kind, max_norm, seeded):
    """Twice, for what the first step left in the gradient must not show in the second."""
    make, draw = NETS[kind]
    net, world = make(), Alone(torch.Generator())
    twin = copy.deepcopy(net)
    ours, theirs = adam(net, 0.01), adam(twin, 0.01)
    for _ in range(2):
        inputs = draw()
        target = torch.randn_like(net(*inputs))
        out = twin(*inputs)
        gradient_step((out - target).square().mean(), theirs, world, max_norm)
        said = descend_along(lambda q, t: 2 * (q - t) / t.numel(), net, inputs, (target,), ours, world, max_norm)
        torch.testing.assert_close(said, out.detach(), rtol=1e-5, atol=1e-6)
        for mine, other in zip(net.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(20, 5), (4, 5, 5)])
@pytest.mark.parametrize("make", [lambda: mlp([5, 16, 8, 3], activation=nn.ReLU), lambda: TanhMLP([5, 16, 8, 3])])
def test_a_step_on_a_tape_is_a_step_down_its_loss(make, shape, seeded):
    """Twice, as above; the parameter beside the network gets its gradient from autograd itself."""
    net = nn.ModuleDict({"net": make()})
    net.beside = nn.Parameter(torch.ones(3))
    world, twin = Alone(torch.Generator()), copy.deepcopy(net)
    ours, theirs = adam(net, 0.01), adam(twin, 0.01)

    def loss(out, beside):
        return (out * beside).cos().sum()

    for _ in range(2):
        x = torch.randn(shape)
        gradient_step(loss(twin["net"](x), twin.beside), theirs, world)
        out, back = net["net"].taped(x)
        gradient_step(loss(out, net.beside), ours, world, back=back)
        for mine, other in zip(net.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-6)


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
    out = layers.chain(x, numbers, layers.tanh_, layers.tanh_backward)
    loss = torch.randn_like(out)
    found = torch.autograd.grad((out * loss).sum(), asked)
    h = x
    for i, (weight, bias) in enumerate(zip(numbers[::2], numbers[1::2], strict=True)):
        h = torch.stack([nn.functional.linear(*each) for each in zip(h, weight, bias, strict=True)])
        h = h.tanh() if i < 2 else h
    torch.testing.assert_close(out, h, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found, torch.autograd.grad((h * loss).sum(), asked), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(layers.chain(x, numbers, layers.tanh_, layers.tanh_backward), h)


@pytest.mark.parametrize("shared", [False, True])
def test_an_actor_critics_step_on_a_tape_is_a_step_down_its_loss(shared, seeded):
    agent = ActorCritic(Box(-1, 1, (5,)), Box(-1, 1, (2,)), width=8, shared=shared)
    world, twin = Alone(torch.Generator()), copy.deepcopy(agent)
    ours, theirs = adam(agent, 0.01), adam(twin, 0.01)

    def loss(agent, out, value):
        return (value - agent.policy.log_prob(out, torch.ones(20, 2))).square().mean()

    for _ in range(2):
        x = torch.randn(20, 5)
        gradient_step(loss(twin, *twin(x)), theirs, world)
        out, value, back = agent.taped(x)
        gradient_step(loss(agent, out, value), ours, world, back=back)
        for mine, other in zip(agent.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("size", "norm"), [(3.0, 1.0), (0.5, 0.5), (0.0, 0.0), (1e15, 1.0)])
def test_a_gradient_is_shrunk_to_its_norm_and_never_grown(size, norm):
    gradient = torch.tensor([0.6, -0.8]) * size
    clip(gradient, 1.0)
    torch.testing.assert_close(gradient, torch.tensor([0.6, -0.8]) * norm)


def test_a_gradient_that_is_not_finite_stays_so():
    for bad in (float("nan"), float("inf")):
        gradient = torch.tensor([1.0, bad])
        clip(gradient, 1.0)
        assert not gradient.isfinite().all()
