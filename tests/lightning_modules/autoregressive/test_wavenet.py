"""WaveNet: what a sample depends on, generation from rings, conditioning, mu-law; tones: their entropy by other means."""

import math

import pytest
import torch

from datamodules.labs.tones import Tones, entropy, stationary
from lightning_modules.autoregressive.wavenet import WaveNet

DOUBLE = torch.float64


def wave(**more):
    given = {"levels": 16, "layers": 6, "stacks": 2, "residual": 6, "skip": 10} | more
    return WaveNet(40, **given).double()


def test_a_sample_is_told_from_those_within_reach_before_it(seeded):
    """By gradients through the embedded past: sample t hears of t - 1 - k for k up to the sum of dilations."""
    net = wave()
    x = torch.randn(1, 40, 6, dtype=DOUBLE, requires_grad=True)
    out = net.body(x, None)[0]
    reach = sum(layer.dilation for layer in net.layers)
    assert reach == 14 and net.reach == 16
    for t in range(40):
        (slope,) = torch.autograd.grad(out[t].sum(), x, retain_graph=True)
        hit = (slope[0] != 0).any(1)
        assert hit.tolist() == [t - reach <= s <= t for s in range(40)]


def test_levels_move_only_what_comes_later(seeded):
    """The embedding shifts by one: a changed sample leaves all up to itself as they were, to the bit."""
    net = wave()
    x = net.value(torch.randint(16, (1, 40)))
    with torch.no_grad():
        before = net.logits(x, None)
        for s in range(40):
            other = x.clone()
            other[0, s] = net.value((net.level(x[:, s : s + 1]) + 5) % 16)[0, 0]
            moved = (net.logits(other, None) != before)[0].any(1)
            assert moved.tolist() == [s < t <= s + net.reach for t in range(40)]


def test_the_probabilities_of_all_waves_sum_to_one(seeded):
    net = wave(levels=4, classes=2)
    x = net.value(torch.cartesian_prod(*[torch.arange(4)] * 5))
    assert net.log_prob(x, torch.ones(len(x)).long()).exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("n", [1, 5, 24, 65])
@pytest.mark.parametrize(
    "given", [{}, {"classes": 3}, {"local": 2, "hop": 7}, {"classes": 2, "local": 1, "hop": 4}], ids=str
)
def test_rings_generate_the_samples_of_the_naive_sampler(given, n, seeded):
    net = wave(**given)
    local = torch.randn(n, net.local, 10, dtype=DOUBLE) if net.local else None
    quick, naive = (net.sample(n, rng=torch.Generator().manual_seed(3), naive=v, local=local) for v in (False, True))
    assert torch.equal(quick, naive) and len(quick.unique()) > 8


def test_conditions_are_heard(seeded):
    net, draw = wave(classes=2, local=1, hop=4), torch.Generator
    local = torch.randn(2, 1, 10, dtype=DOUBLE)
    x = net.value(torch.randint(16, (1, 40))).expand(2, 40)
    logs = net.log_prob(x, torch.tensor([0, 1]), local[:1].expand(2, -1, -1))
    assert logs[0] != logs[1]
    nats = net.nats(x, torch.tensor([0, 0]), torch.cat([local[:1], local[:1] + torch.eye(10)[5]]))
    assert ((nats[0] != nats[1]).nonzero()[:, 0] >= 20).all() and (nats[0] != nats[1])[20:24].all()
    assert net.sample(4, rng=draw().manual_seed(0), local=local[:1].expand(4, -1, -1)).shape == (4, 40)


@pytest.mark.parametrize("levels", [2, 16, 256])
def test_mu_law_has_as_many_levels_and_gives_each_back(levels):
    net = wave(levels=levels).float()
    levels = torch.arange(levels)[None]
    x = net.value(levels)
    assert torch.equal(net.level(x), levels)
    assert x[0, 0] == -1 and x[0, -1] == 1 and (x.diff() > 0).all()
    mu = levels.shape[1] - 1
    assert mu == 1 or x[0, -2].item() == pytest.approx(((1 + mu) ** (1 - 2 / mu) - 1) / mu, abs=1e-6)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: WaveNet(8, layers=5, stacks=2), "do not divide"),
        (lambda: wave().log_prob(torch.zeros(2, 1, 8).double()), r"waves \[B, T\]"),
        (lambda: wave().log_prob(torch.full((2, 8), 1.5).double()), r"\[-1, 1\]"),
        (lambda: wave().log_prob(torch.full((2, 8), math.nan).double()), r"\[-1, 1\]"),
        (lambda: wave(classes=2).log_prob(torch.zeros(2, 8).double()), "give the labels"),
        (lambda: wave(local=2).log_prob(torch.zeros(2, 8).double()), "2 local features"),
        (
            lambda: wave(local=2, hop=4).log_prob(torch.zeros(2, 9).double(), None, torch.zeros(2, 2, 2)),
            "2 local features",
        ),
    ],
)
def test_what_cannot_be_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


# ---- tones


def small(**more):
    return Tones(**({"length": 6, "levels": 4, "pitches": (0.1, 0.2), "damping": 0.8, "noise": 0.3} | more))


def test_tones_are_a_markov_source_with_its_entropy(seeded):
    """Of short waves all can be listed: they sum to one, and their entropy is the formula's."""
    data = small()
    x = data.value[torch.cartesian_prod(*[torch.arange(4)] * 6)]
    total = 0.0
    for label in range(2):
        logs = data.log_prob(x, torch.full((len(x),), label))
        assert logs.exp().sum().item() == pytest.approx(1, abs=1e-12)
        total += entropy(logs.exp(), 0).item() / 2
    assert data.entropy() == pytest.approx(total, abs=1e-10)
    torch.testing.assert_close(data.table.sum(3), torch.ones(2, 4, 4, dtype=DOUBLE))


def test_neighbours_stay_as_they_are_distributed():
    table = small().table[0]
    pairs = stationary(table)
    by_lines = torch.zeros(16, 16, dtype=DOUBLE)  # the chain of pairs, solved as linear equations
    for a in range(4):
        for b in range(4):
            by_lines[4 * a + b, 4 * b : 4 * b + 4] = table[a, b]
    system = torch.cat([by_lines.T - torch.eye(16), torch.ones(1, 16, dtype=DOUBLE)])
    solved = torch.linalg.lstsq(system, torch.eye(17, dtype=DOUBLE)[:, 16:]).solution
    torch.testing.assert_close(pairs.flatten(), solved[:, 0], atol=1e-10, rtol=0)


def test_draws_have_the_entropy_and_the_pitch():
    """Mean -log p within 4 standard errors (p = 6e-5); the spectrum's peak at the label's pitch."""
    data = Tones(length=256)
    x, label = data.draw(300, torch.Generator().manual_seed(0)).values()
    nats = -data.log_prob(x, label)
    expected = sum(
        (data.pairs * entropy(data.table, 3)).sum((1, 2))[k].item() * (label == k).float().mean() for k in range(3)
    )
    assert abs(nats.mean() / 256 - expected) < 4 * nats.std() / 256 / 300**0.5 + 4 / 256
    for k, pitch in enumerate((0.03, 0.06, 0.12)):
        power = torch.fft.rfft(x[label == k]).abs().square().mean(0)
        assert abs(power[1:].argmax().item() + 1 - pitch * 256) <= 2
    assert torch.equal(data.value[data.level(x)].float(), x) and x.shape == (300, 256)
    net = WaveNet(256, levels=data.levels, layers=2, stacks=1)
    assert torch.equal(net.level(x), data.level(x))
