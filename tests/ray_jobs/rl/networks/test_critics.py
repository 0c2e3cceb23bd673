"""An ensemble against its members one by one; slow copies against their formula."""

import copy

import pytest
import torch
from scipy import stats
from torch import nn

from ray_jobs.rl.networks.critics import Ensemble, polyak
from ray_jobs.rl.networks.nets import mlp


def members(ensemble, sizes):
    """Plain networks with the same weights."""
    nets = [mlp(sizes, activation=nn.ReLU) for _ in range(ensemble.n)]
    for i, net in enumerate(nets):
        layers = [m for m in net if isinstance(m, nn.Linear)]
        for layer, w, b in zip(layers, ensemble.weights, ensemble.biases, strict=True):
            layer.weight.data.copy_(w[i].t())
            layer.bias.data.copy_(b[i, 0])
    return nets


@pytest.mark.parametrize("outputs", [1, 7])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_an_ensemble_is_its_members(n, outputs, seeded):
    """Values, and derivatives by weights, observation and action."""
    sizes = [8, 16, 12, outputs]
    ensemble = Ensemble(n, sizes)
    nets = members(ensemble, sizes)
    obs, action = torch.randn(9, 2, 3, requires_grad=True), torch.randn(9, 2, requires_grad=True)
    q = ensemble(obs, action)
    each = torch.stack([net(torch.cat([obs.flatten(1), action], 1)) for net in nets])
    assert q.shape == ((n, 9) if outputs == 1 else (n, 9, outputs))
    torch.testing.assert_close(q, each.view_as(q))
    weight = torch.randn(q.shape)
    ours = torch.autograd.grad((q * weight).sum(), [obs, action, *ensemble.weights, *ensemble.biases])
    theirs = torch.autograd.grad(
        (each.view_as(q) * weight).sum(), [obs, action, *(p for m in nets for p in m.parameters())]
    )
    torch.testing.assert_close(ours[:2], theirs[:2])
    for i, (w, b) in enumerate(zip(ours[2:5], ours[5:], strict=True)):
        torch.testing.assert_close(w, torch.stack([g.t() for g in theirs[2 + 2 * i :: 6]]))
        torch.testing.assert_close(b.squeeze(1), torch.stack(theirs[3 + 2 * i :: 6]))


def test_each_member_may_have_inputs_of_its_own(seeded):
    ensemble, x = Ensemble(3, [5, 8, 2]), torch.randn(3, 9, 5)
    nets = members(ensemble, [5, 8, 2])
    torch.testing.assert_close(ensemble.each(x), torch.stack([net(row) for net, row in zip(nets, x, strict=True)]))
    whole = ensemble(*x[0].split([3, 2], 1))
    assert torch.equal(ensemble.each(x[:1].expand(3, -1, -1)), whole)


def test_frozen_critics_pass_the_same_gradient_to_the_action_alone(seeded):
    ensemble, obs, action = Ensemble(2, [5, 16, 1]), torch.randn(9, 3), torch.randn(9, 2, requires_grad=True)
    (plain,) = torch.autograd.grad(ensemble(obs, action).sum(), action)
    ensemble(obs, action, frozen=True).sum().backward()
    assert torch.equal(action.grad, plain)
    assert all(p.grad is None for p in ensemble.parameters())


def test_the_first_members_can_be_asked_alone(seeded):
    ensemble, obs, action = Ensemble(3, [5, 16, 1]), torch.randn(9, 3), torch.randn(9, 2, requires_grad=True)
    everyone, two = ensemble(obs, action), ensemble(obs, action, frozen=True, first=2)
    torch.testing.assert_close(two, everyone[:2])
    slopes = [torch.autograd.grad(q[:2].sum(), action)[0] for q in (everyone, two)]
    torch.testing.assert_close(*slopes)


def test_members_start_apart_and_as_linear_layers_do(seeded):
    """Two samples by Kolmogorov and Smirnov, for two layers' weights and biases: p below 1e-4 with probability 4e-4 in all."""
    sizes = [25, 400, 9]
    ensemble = Ensemble(8, sizes)
    layers = [[nn.Linear(a, b) for _ in range(8)] for a, b in ((25, 400), (400, 9))]
    for w, b, linear in zip(ensemble.weights, ensemble.biases, layers, strict=True):
        for ours, theirs in ((w, [x.weight for x in linear]), (b, [x.bias for x in linear])):
            flat = torch.cat([x.detach().flatten() for x in theirs])
            assert stats.ks_2samp(ours.detach().flatten().numpy(), flat.numpy()).pvalue > 1e-4
    assert not torch.equal(ensemble.weights[0][0], ensemble.weights[0][1])


def test_an_ensemble_is_kept_and_restored(seeded):
    one, two = Ensemble(2, [5, 8, 1]), Ensemble(2, [5, 8, 1])
    two.load_state_dict(one.state_dict())
    x = torch.randn(4, 5).split([3, 2], 1)
    assert torch.equal(one(*x), two(*x))


def test_slow_copies_cover_the_share_of_the_way(seeded):
    """After k moves towards one that stands still, (1 - tau)^k of the distance is left."""
    online = mlp([3, 4, 2], activation=nn.ReLU)
    target = copy.deepcopy(online)
    start = [torch.randn_like(p) for p in target.parameters()]
    for p, x in zip(target.parameters(), start, strict=True):
        p.data.copy_(x)
    for _ in range(5):
        polyak(target.parameters(), online.parameters(), 0.1)
    for p, o, x in zip(target.parameters(), online.parameters(), start, strict=True):
        torch.testing.assert_close(p, o + 0.9**5 * (x - o))
    polyak(target.parameters(), online.parameters(), 1.0)
    assert all(torch.equal(p, o) for p, o in zip(target.parameters(), online.parameters(), strict=True))
