"""Adversarial losses against theorems: the best discriminator, the divergence at its optimum, the distance that a critic estimates."""

import math

import pytest
import torch
from torch import nn

from lightning_modules.gan import losses
from lightning_modules.metrics.samples import wasserstein

DOUBLE = torch.float64


def tables():
    """Two densities on 40 points."""
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(40, generator=rng, dtype=DOUBLE).softmax(0) for _ in range(2)]


def value(logits, p, q):
    """The discriminator's loss with its means taken over two tables, by its parts at each point."""
    real = torch.stack([losses.real_loss(x[None]) for x in logits])
    fake = torch.stack([losses.fake_loss(x[None]) for x in logits])
    return p @ real + q @ fake


def minimised(objective, logits):
    optimizer = torch.optim.LBFGS([logits], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-14)

    def closure():
        optimizer.zero_grad()
        loss = objective(logits)
        loss.backward()
        return loss

    optimizer.step(closure)
    return objective(logits).item()


def test_the_best_discriminator_is_p_over_p_plus_q_and_its_loss_is_that_of_jensen_and_shannon():
    p, q = tables()
    logits = torch.zeros(40, dtype=DOUBLE, requires_grad=True)
    least = minimised(lambda x: value(x, p, q), logits)
    torch.testing.assert_close(logits.detach().sigmoid(), p / (p + q), atol=1e-5, rtol=0)
    m = (p + q) / 2
    js = 0.5 * (p * (p / m).log()).sum() + 0.5 * (q * (q / m).log()).sum()
    assert -least == pytest.approx((2 * js - 2 * math.log(2)).item(), abs=1e-9)


def test_smoothing_moves_the_best_discriminator_to_label_times_p():
    """Section 3.4: D = a p / (p + q), for a label a of real examples."""
    p, q = tables()
    logits = torch.zeros(40, dtype=DOUBLE, requires_grad=True)

    def smoothed(x):
        real = torch.stack([losses.real_loss(one[None], 0.9) for one in x])
        return p @ real + q @ torch.stack([losses.fake_loss(one[None]) for one in x])

    minimised(smoothed, logits)
    torch.testing.assert_close(logits.detach().sigmoid(), 0.9 * p / (p + q), atol=1e-5, rtol=0)


def test_a_net_trained_on_two_normals_is_their_ratio():
    """The best logit of N(1, 1) against N(-1, 1) is 2 x; a net trained on samples of them finds it."""
    rng = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(600):
        real, fake = torch.randn(1024, 1, generator=rng) + 1, torch.randn(1024, 1, generator=rng) - 1
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (1 - step / 600)
        optimizer.zero_grad()
        (losses.real_loss(net(real)) + losses.fake_loss(net(fake))).backward()
        optimizer.step()
    x = torch.linspace(-1.5, 1.5, 31)[:, None]
    assert (net(x).sigmoid() - (2 * x).sigmoid()).abs().max() < 0.03


def test_the_generators_losses_are_those_of_the_paper():
    logits = torch.linspace(-3, 3, 7, dtype=DOUBLE)
    d = logits.sigmoid()
    assert losses.minimax(logits).item() == pytest.approx((1 - d).log().mean().item())
    assert losses.non_saturating(logits).item() == pytest.approx(-d.log().mean().item())
    assert losses.minimax(torch.tensor([-200.0, 200.0])).isfinite()


def test_the_penalty_is_that_of_a_known_gradient():
    """f(x) = |x|^2 / 2 has the gradient x; a linear critic of slope 3 is punished by 4 everywhere."""
    rng = torch.Generator().manual_seed(0)
    x, y, uniform = (
        torch.randn(64, 3, generator=rng),
        torch.randn(64, 3, generator=rng),
        torch.rand(64, generator=rng),
    )
    between = uniform[:, None] * x + (1 - uniform[:, None]) * y
    norms = losses.gradient_norms(lambda z: z.square().sum(1) / 2, x, y, uniform)
    torch.testing.assert_close(norms, between.norm(dim=1))
    steep = losses.gradient_penalty(lambda z: 3 * z[:, 0], x, y, uniform)
    assert steep.item() == pytest.approx(4)
    slope = torch.tensor(2.0, requires_grad=True)
    losses.gradient_penalty(lambda z: slope * z[:, 0], x, y, uniform).backward()
    assert slope.grad.item() == pytest.approx(2)


def estimates(x, y, kind):
    """The distance of two fixed samples that a trained critic estimates, and the norms of its gradient between them."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1), nn.Flatten(0))
    clip = kind == "clip"
    optimizer = torch.optim.RMSprop(net.parameters(), 2e-3) if clip else torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(700):
        optimizer.zero_grad()
        loss = losses.wasserstein(net(x), net(y))
        if not clip:
            loss = loss + 10 * losses.gradient_penalty(net, x, y, torch.rand(len(x)))
        loss.backward()
        optimizer.step()
        for p in net.parameters() if clip else []:
            p.data.clamp_(-0.1, 0.1)
    norms = losses.gradient_norms(net, x, y, torch.rand(len(x))).detach()
    return -losses.wasserstein(net(x), net(y)).item(), norms


def test_critics_estimate_the_exact_distance_and_the_penalty_is_tighter():
    """Against a linear assignment. On the optimal paths, a slope a gains a W1 - 10 (a - 1)^2: most at a = 1 + W1 / 20."""
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(200, 2, generator=rng) * 0.5
    y = torch.randn(200, 2, generator=rng) * torch.tensor([1.0, 0.3]) + torch.tensor([1.5, 0.5])
    exact = wasserstein(x, y, 1)
    penalised, norms = estimates(x, y, "penalty")
    slope = 1 + exact / 20
    assert penalised == pytest.approx(slope * exact, rel=0.03)
    assert norms.mean().item() == pytest.approx(slope, abs=0.05)
    assert norms.std() < 0.15
    clipped, slopes = estimates(x, y, "clip")
    lower = clipped / slopes.max().item()
    assert lower <= exact * 1.001
    assert abs(penalised / slope - exact) < abs(lower - exact)


def test_matching_and_history_are_squared_distances():
    a, b = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.0, 1.0], [0.0, 3.0]])
    assert losses.feature_matching(a, b).item() == pytest.approx(2**2 + 1**2)
    assert losses.historical(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0])).item() == 5
