"""K-FAC as an optimiser: its factors, its steps, its invariance, and its state."""

import copy
import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ray_jobs.rl.contract import Alone
from ray_jobs.rl.maths.curvature import kronecker_factors, precondition
from ray_jobs.rl.networks.nets import mlp
from ray_jobs.rl.optim.kfac import KFAC
from ray_jobs.rl.optim.step import gradient_step


def drawn(seed: int, *shape: int):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def built(sizes=(3, 4, 2), seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return mlp(sizes, activation=nn.Tanh).double()


def scores(net, x, noise):
    """log N(f(x) + noise; f(x), 1) [N] up to a constant: outcomes of a model drawn with given noise."""
    out = net(x)
    return -0.5 * ((out + noise).detach() - out).square().sum(-1)


def go(optimizer, net, x, noise, target):
    """One update towards targets [N, out]."""
    with optimizer.recording():
        logp = scores(net, x, noise)
    optimizer.observe(logp)
    gradient_step((net(x) - target).square().sum(-1).mean() / 2, optimizer, Alone(torch.Generator()))


def pairs_slowly(net, x, noise):
    """Inputs and output slopes of each linear layer, one sample at a time, from the gradients of the weights and biases."""
    layers = [m for m in net if isinstance(m, nn.Linear)]
    seen = [[] for _ in layers]
    for one, z in zip(x, noise, strict=True):
        logp = scores(net, one[None], z[None]).sum()
        for layer, rows in zip(layers, seen, strict=True):
            dw, db = torch.autograd.grad(logp, [layer.weight, layer.bias], retain_graph=True)
            big = db.abs().argmax()
            rows.append((dw[big] / db[big], db))
    return [tuple(torch.stack(c) for c in zip(*rows, strict=True)) for rows in seen]


def test_its_factors_are_those_of_each_layers_inputs_and_slopes():
    """Recorded over leading dimensions [T, B], and of calls that matter alone: one without consequences does not count."""
    net, x, noise = built(), drawn(0, 2, 3, 3), drawn(1, 2, 3, 2)
    optimizer = KFAC(net, 1.0, 1e9)
    with optimizer.recording():
        logp = scores(net, x, noise)
        net(100 * x)
    optimizer.observe(logp)
    expected = [f for a, g in pairs_slowly(net, x.flatten(0, 1), noise.flatten(0, 1)) for f in kronecker_factors(a, g)]
    for ours, truth in zip(optimizer.factors, expected, strict=True):
        torch.testing.assert_close(ours, truth)
    assert not any(m._forward_hooks for m in net.modules())
    assert all(not p.grad.any() for p in net.parameters())


CONVOLUTIONS = {
    "plain": {"kernel_size": 2},
    "strided": {"kernel_size": (2, 3), "stride": (1, 2), "padding": (1, 0)},
    "dilated": {"kernel_size": 2, "dilation": 2, "padding": 1, "bias": False},
}
convolutions = pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)


def convolution(options, seed=0):
    """Of images [N, 2, 5, 6] to 3 channels."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Conv2d(2, 3, **options).double()


def patches_slowly(layer, x):
    """[N, P, in]: what the kernels see at each position of x [N, C, H, W], by slices; where there is a bias, and a 1."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = layer.kernel_size, layer.stride, layer.padding, layer.dilation
    x, (H, W) = F.pad(x, (pw, pw, ph, ph)), layer(x).shape[2:]
    at = [
        x[:, :, i * sh : i * sh + dh * (kh - 1) + 1 : dh, j * sw : j * sw + dw * (kw - 1) + 1 : dw].flatten(1)
        for i in range(H)
        for j in range(W)
    ]
    seen = torch.stack(at, 1)
    return seen if layer.bias is None else torch.cat([seen, torch.ones_like(seen[..., :1])], -1)


@convolutions
def test_a_convolutions_factors_are_of_its_patches_and_slopes(options):
    """Sums over positions of the one, means of the other; a ReLU that overwrites the output does not spoil them."""
    layer, x, noise = convolution(options), drawn(0, 7, 2, 5, 6), drawn(1, 7, 2)
    head = nn.Linear(layer(x)[0].numel(), 2).double()
    net = nn.Sequential(layer, nn.ReLU(inplace=True), nn.Flatten(), head)
    optimizer = KFAC(net, 1.0, 1e9)
    with optimizer.recording():
        logp = scores(net, x, noise)
    optimizer.observe(logp)
    probe = torch.zeros_like(layer(x)).requires_grad_()
    out = head((layer(x) + probe).relu().flatten(1))
    (slope,) = torch.autograd.grad((-0.5 * ((out + noise).detach() - out).square()).sum(), probe)
    patches = patches_slowly(layer, x)
    A = sum(torch.outer(a, a) for image in patches for a in image) / 7
    G = sum(torch.outer(g, g) for image in slope.flatten(2) for g in image.t()) / patches.shape[:2].numel()
    assert slope.abs().max() > 0.1
    torch.testing.assert_close(optimizer.factors[0], A)
    torch.testing.assert_close(optimizer.factors[1], G)


def test_a_convolutions_block_is_the_exact_fisher_matrix_of_gaussian_outputs():
    """Where slopes at different positions have nothing to do with one another: over all signs of the noise, whose moments are N(0, 1)'s.

    There all of the approximation's assumptions hold: Grosse & Martens, section 3.
    """
    x, signs = drawn(0, 3, 1, 2, 3), torch.tensor(list(itertools.product([-1.0, 1.0], repeat=6))).double()
    net = nn.Sequential(nn.Conv2d(1, 2, (2, 1)), nn.Flatten()).double()
    images, noise = x.repeat_interleave(64, 0), signs.repeat(3, 1)
    optimizer = KFAC(net, 1.0, 1e9)
    with optimizer.recording():
        logp = scores(net, images, noise)
    optimizer.observe(logp)
    weight, bias = net[0].weight, net[0].bias
    exact = torch.zeros(6, 6).double()
    for one in logp:
        dw, db = torch.autograd.grad(one, [weight, bias], retain_graph=True)
        score = torch.cat([dw.flatten(1), db[:, None]], 1).flatten()
        exact += torch.outer(score, score) / len(logp)
    torch.testing.assert_close(torch.kron(optimizer.factors[1], optimizer.factors[0]), exact)


@convolutions
def test_a_gaussian_convolution_is_solved_in_one_step(options):
    """Least squares over patches, as for a linear layer."""
    layer, x = convolution(options), drawn(0, 4, 2, 5, 6)
    shape = layer(x).shape
    target, patches = drawn(1, *shape), patches_slowly(layer, x).flatten(0, 1)
    signs = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]]).double()  # uncorrelated over channels
    noise = signs.repeat(len(patches) // 4, 1).view(4, -1, 3).transpose(1, 2).flatten(1)
    net = nn.Sequential(layer, nn.Flatten())
    go(KFAC(net, 1.0, 1e9, damping=1e-12), net, x, noise, target.flatten(1))
    best = torch.linalg.lstsq(patches, target.flatten(2).transpose(1, 2).flatten(0, 1)).solution
    torch.testing.assert_close(layer(x).flatten(2).transpose(1, 2).flatten(0, 1), patches @ best, rtol=1e-4, atol=1e-4)


def test_a_kernel_as_large_as_the_image_is_a_linear_layer():
    """The same factors and the same path."""
    x, noise, target = drawn(0, 30, 2, 3, 2), drawn(1, 30, 2), drawn(2, 30, 2)
    flat, whole = built((12, 4, 2)), nn.Sequential(nn.Conv2d(2, 4, (3, 2)), nn.Tanh(), nn.Flatten(), nn.Linear(4, 2))
    whole.double()
    with torch.no_grad():
        for mine, theirs in zip(whole.parameters(), flat.parameters(), strict=True):
            mine.copy_(theirs.view_as(mine))
    start = flat(x.flatten(1))
    ours, theirs = (KFAC(n, 1e9, 1e-3, damping=1e-2) for n in (whole, flat))
    for _ in range(3):
        go(ours, whole, x, noise, target)
        go(theirs, flat, x.flatten(1), noise, target)
    for mine, other in zip(ours.factors, theirs.factors, strict=True):
        torch.testing.assert_close(mine, other)
    torch.testing.assert_close(whole(x), flat(x.flatten(1)))
    assert (whole(x) - start).abs().max() > 0.01


def test_a_step_goes_down_the_preconditioned_gradient_as_far_as_it_may():
    """Half the damped quadratic form of the step is max_kl, or the step size its most; a parameter of no layer goes down its gradient."""
    x, noise, target = drawn(0, 6, 3), drawn(1, 6, 2), drawn(2, 6, 2)
    for lr, max_kl in ((1e9, 0.01), (1e-3, 1e9)):
        net = built()
        net.scale = nn.Parameter(torch.tensor([0.5, 2.0], dtype=torch.float64))
        optimizer = KFAC(net, lr, max_kl, damping=0.1)
        before = [p.detach().clone() for p in net.parameters()]
        net.forward = lambda x, net=net: nn.Sequential.forward(net, x) * net.scale
        go(optimizer, net, x, noise, target)
        moved = [b - p.detach() for b, p in zip(before, net.parameters(), strict=True)]
        grads = [p.grad for p in net.parameters()]
        natural, (A0, G0, A1, G1) = [grads[0]], optimizer.factors
        for (w, b), A, G in ((grads[1:3], A0, G0), (grads[3:5], A1, G1)):
            turned = precondition(torch.cat([w, b[:, None]], 1), A, G, 0.1)
            natural += [turned[:, :-1], turned[:, -1]]
        square = sum((n * g).sum() for n, g in zip(natural, grads, strict=True))
        eta = min(lr, float((2 * max_kl / square).sqrt()))
        for m, n in zip(moved, natural, strict=True):
            torch.testing.assert_close(m, eta * n)


def test_a_linear_gaussian_model_is_solved_in_one_step():
    """There F is G (x) A and the loss's Hessian: noise whose second moments are those of N(0, 1) makes the step Newton's."""
    net = nn.Sequential(nn.Linear(3, 2)).double()
    x, target = drawn(0, 8, 3), drawn(1, 8, 2)
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64).repeat(2, 1)
    go(KFAC(net, 1.0, 1e9, damping=1e-12), net, x, signs, target)
    rows = torch.cat([x, torch.ones(8, 1)], 1)
    torch.testing.assert_close(net(x), rows @ torch.linalg.lstsq(rows, target).solution, rtol=1e-4, atol=1e-4)


def test_its_path_does_not_depend_on_how_inputs_are_written():
    """A network that sees M x + c in place of x, and undoes it in its weights, learns the same function; plain gradients do not.

    Martens & Grosse, theorem 1, without damping.
    """
    x, noise, target = drawn(0, 30, 3), drawn(1, 30, 2), drawn(2, 30, 2)
    M, c = drawn(3, 3, 3), drawn(4, 3)
    one, two = built(), built()
    with torch.no_grad():
        two[0].weight.copy_(one[0].weight @ torch.linalg.inv(M))
        two[0].bias.copy_(one[0].bias - two[0].weight @ c)
    z = x @ M.t() + c
    torch.testing.assert_close(one(x), two(z))
    start = one(x)
    ours, theirs = (KFAC(n, 1e9, 1e-3, damping=1e-14) for n in (one, two))
    for _ in range(3):
        go(ours, one, x, noise, target)
        go(theirs, two, z, noise, target)
    torch.testing.assert_close(one(x), two(z), rtol=1e-5, atol=1e-5)
    assert (one(x) - start).abs().max() > 0.01


def test_two_learners_halves_are_one_learners_whole():
    """Each sends one message of all its factors."""
    x, noise, sent = drawn(0, 8, 3), drawn(1, 8, 2), []

    def observe(optimizer, model, rows, mean):
        with optimizer.recording():
            logp = scores(model, x[rows], noise[rows])
        optimizer.observe(logp, mean)

    nets = [built() for _ in range(3)]
    alone, other, half = (KFAC(n, 1.0, 1e9) for n in nets)
    observe(alone, nets[0], slice(0, 8), lambda mine: mine)
    observe(other, nets[1], slice(4, 8), lambda mine: sent.append(mine) or mine)
    observe(half, nets[2], slice(0, 4), lambda mine: (mine + sent[0]) / 2)
    assert len(sent) == 1
    for whole, mean in zip(alone.factors, half.factors, strict=True):
        torch.testing.assert_close(mean, whole)


def test_it_resumes_exactly_between_inversions():
    net = built()
    optimizer = KFAC(net, 0.1, 1e-2, every=3)
    data = [(drawn(5 * k, 6, 3), drawn(5 * k + 1, 6, 2), drawn(5 * k + 2, 6, 2)) for k in range(8)]
    for batch in data[:4]:
        go(optimizer, net, *batch)
    again = built(seed=1)
    resumed = KFAC(again, 7.0, 7.0)
    again.load_state_dict(copy.deepcopy(net.state_dict()))
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for batch in data[4:]:
        go(optimizer, net, *batch)
        go(resumed, again, *batch)
    for a, b in zip(net.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert resumed.param_groups[0]["lr"] == 0.1


def test_inverses_are_kept_for_so_many_steps():
    net, batch = built(), (drawn(0, 6, 3), drawn(1, 6, 2), drawn(2, 6, 2))
    optimizer, kept = KFAC(net, 0.1, 1e-2, every=2), []
    for _ in range(4):
        go(optimizer, net, *batch)
        kept.append(optimizer.inverses[0].clone())
    assert torch.equal(kept[0], kept[1])
    assert not torch.equal(kept[1], kept[2])
    assert torch.equal(kept[2], kept[3])


def test_layers_without_bias():
    net = nn.Sequential(nn.Linear(3, 2, bias=False)).double()
    before, optimizer = net[0].weight.detach().clone(), KFAC(net, 0.5, 1e9, damping=0.1)
    go(optimizer, net, drawn(0, 6, 3), drawn(1, 6, 2), drawn(2, 6, 2))
    step = 0.5 * precondition(net[0].weight.grad, *optimizer.factors, 0.1)
    torch.testing.assert_close(before - net[0].weight, step)


def test_misuse_is_refused():
    with pytest.raises(ValueError, match="needs linear layers or convolutions"):
        KFAC(nn.Tanh(), 1.0, 1.0)
    for options in ({"groups": 2}, {"padding": "same"}, {"padding": 1, "padding_mode": "reflect"}):
        with pytest.raises(ValueError, match="one group"):
            KFAC(nn.Conv2d(2, 2, 3, **options), 1.0, 1.0)
    net, x, noise = built(), drawn(0, 4, 3), drawn(1, 4, 2)
    optimizer = KFAC(net, 1.0, 1.0)
    with pytest.raises(ValueError, match="before its first step"):
        optimizer.step()
    with pytest.raises(ValueError, match="within `recording`"):
        optimizer.observe(scores(net, x, noise))
    with optimizer.recording():
        scores(net, x, noise)
    with pytest.raises(ValueError, match="depend on every"):
        optimizer.observe(scores(net, x, noise))
