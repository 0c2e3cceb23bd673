"""Classifier guidance: the exact noisy classifier, algorithm 1 in the paper's units, the guided law of a Gaussian, and what it refuses."""

import pytest
import torch
from torch import nn

from datamodules.labs.density2d import Density2D, ring
from lightning_modules.conditions import UNCONDITIONAL, Cond
from lightning_modules.diffusion import guidance, schedules
from lightning_modules.diffusion.models.classifier_guidance import NoisyClassifier, classifier_guidance
from lightning_modules.diffusion.models.ddpm import ddpm
from lightning_modules.diffusion.models.edm import edm
from lightning_modules.diffusion.models.improved_ddpm import ImprovedDDPM
from lightning_modules.diffusion.steps import reverse
from lightning_modules.draws import Draws
from lightning_modules.nets.encoders import VectorEncoder
from lightning_modules.nets.mlp import ResidualMLP
from lightning_modules.optim import AdamW

DOUBLE = torch.float64
CLASS, ALL = 0.3, 1.2
"""Variances of a class N(0, CLASS) in N(0, ALL)."""
TABLE = schedules.linear(50, 2e-3, 0.4)
LABEL = torch.zeros(4, dtype=torch.long)


# ---- the laboratory with labels


def test_points_have_the_component_that_they_are_drawn_from():
    data, plain = Density2D(labels=True), Density2D()
    batch = data.test(512)
    assert data.classes == 8 and plain.classes == 0
    assert torch.equal(batch["x"], plain.test(512)["x"]) and "label" not in plain.test(4)
    likeliest = data.density.log_label(batch["x"], torch.zeros(512)).argmax(1)
    assert torch.equal(likeliest, batch["label"])  # neighbours are 7 deviations apart
    with pytest.raises(ValueError, match="2 dimensions, not in 3"):
        Density2D(labels=True, size=3)
    with pytest.raises(ValueError, match="no mixture 'moons'"):
        Density2D(name="moons", labels=True)


@pytest.mark.parametrize("sigma", [0.05, 0.4, 3.0])
def test_the_denoisers_of_the_classes_weighed_by_the_classifier_are_the_denoiser(sigma):
    """E[x | y] = sum over c of p(c | y) E[x | y, c]; of a round component the latter is (s^2 m + v y) / (v + s^2)."""
    density, y = ring(4), torch.randn(6, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    s = torch.full((6,), sigma, dtype=DOUBLE)
    of_class = torch.stack([density.denoise_given(y, s, torch.full((6,), k)) for k in range(4)], 1)
    torch.testing.assert_close(of_class, (sigma**2 * density.mean + 0.01 * y[:, None]) / (0.01 + sigma**2))
    weighed = (density.log_label(y, s).exp()[..., None] * of_class).sum(1)
    torch.testing.assert_close(weighed, density.denoise(y, s), rtol=1e-9, atol=1e-12)


# ---- algorithm 1


def log_prob(y, sigma):
    """Of the class N(0, CLASS) in N(0, ALL), up to a constant."""
    return -(y.square() / 2).flatten(1).sum(1) * (1 / (CLASS + sigma**2) - 1 / (ALL + sigma**2))


def test_the_mean_moves_as_algorithm_1_says():
    """In the paper's units: mu + s Sigma grad log p(c | x_t) for x_{t-1} given x_t, x_t = y / sqrt(1 + sigma^2)."""
    s, r = TABLE[[30, 29]]
    y, scale = torch.randn(5, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(0)), 1.7
    plain = reverse(lambda y, s: 0.5 * y, schedules.forward)
    mean, variance = plain(y, s, r)
    moved = guidance.classifier_shifted(plain, log_prob, scale)(y, s, r)
    assert torch.equal(moved.variance, variance)
    x = (y / (1 + s**2).sqrt()).requires_grad_()
    (of_x,) = torch.autograd.grad(log_prob(x * (1 + s**2).sqrt(), s).sum(), x)
    in_x = mean / (1 + r**2).sqrt() + scale * variance / (1 + r**2) * of_x
    torch.testing.assert_close(moved.mean, in_x * (1 + r**2).sqrt(), rtol=1e-12, atol=0)


def test_as_steps_shrink_the_shift_is_that_of_the_score():
    y = torch.randn(5, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    plain = reverse(lambda y, s: 0.5 * y, schedules.forward)
    errors = []
    for step in (0.02, 0.01):
        s, r = torch.tensor(1.0, dtype=DOUBLE), torch.tensor(1.0 - step, dtype=DOUBLE)
        shift = guidance.classifier_shifted(plain, log_prob)(y, s, r).mean - plain(y, s, r).mean
        of_score = (s**2 - r**2) * guidance.gradient(log_prob, y, s.expand(5))
        errors.append((shift / of_score - 1).abs().max().item())
    assert errors[0] == pytest.approx(2 * errors[1], rel=0.05) and errors[1] < 0.01


# ---- sampling


class ExactNoise(nn.Module):
    """The noise of N(0, ALL) and, for a learned variance, the share 0."""

    def __init__(self, outputs=1):
        super().__init__()
        self.outputs, self.anchor, self.asked = outputs, nn.Parameter(torch.zeros(1)), []

    def forward(self, x, level, cond):
        self.asked.append(cond)
        s = level.exp()[:, None]
        n = s * x * (1 + s**2).sqrt() / (ALL + s**2) + self.anchor
        return torch.cat([n, torch.full_like(n, -1.0)], 1) if self.outputs == 2 else n


class ExactLogits(nn.Module):
    """Of the class N(0, CLASS), label 0, against the rest: logits whose first log probability has the exact gradient."""

    def __init__(self):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, x, level):
        s = level.exp()
        log = (
            log_prob(x * (1 + s[:, None] ** 2).sqrt(), s) - 20 + self.anchor
        )  # far below 0, so that exp adds nothing to log(1 - p)
        return torch.stack([log, torch.log1p(-log.exp())], 1)


def exact(diffusion):
    model = classifier_guidance(
        diffusion.double(), ExactLogits().double(), classes=2, steps=4, classifier_steps=2, optim=AdamW()
    )
    return model.last


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_the_guided_flow_of_a_gaussian_has_its_known_variance(scale):
    """v (v / V)^(scale - 1): the scale counts from 1, where the classifier makes the conditional law."""
    model = exact(ddpm(ExactNoise(), (1,), levels=schedules.linear(1000)))
    drawn = model.sample(4, LABEL, guidance=scale, sampler="heun", rng=torch.Generator().manual_seed(0), steps=400)
    start = model.draw.grid(1)[0].item()
    y = torch.randn(4, 1, dtype=DOUBLE, generator=torch.Generator().manual_seed(0)) * (1 + start**2) ** 0.5
    gain = (drawn / y).square() * (CLASS + start**2) ** scale * (ALL + start**2) ** (1 - scale)
    torch.testing.assert_close(gain, torch.full_like(gain, CLASS * (CLASS / ALL) ** (scale - 1)), rtol=1e-2, atol=0)


def test_own_steps_with_a_learned_variance_draw_the_class():
    """Algorithm 1 with the posterior's variance: of 10,000 draws, the variance within 4 standard errors and 2% for the steps' error."""
    model = exact(ImprovedDDPM(ExactNoise(2), (1,), levels=schedules.linear(1000), optim=AdamW()))
    label = torch.zeros(10_000, dtype=torch.long)
    drawn = model.sample(10_000, label, guidance=1.0, rng=torch.Generator().manual_seed(0), steps=400, batch=10_000)
    assert drawn.var().item() == pytest.approx(CLASS, rel=4 * (2 / 10_000) ** 0.5 + 0.02)


def test_a_network_without_labels_is_asked_without_them_and_one_with_labels_with_them():
    for drop, seen in ((None, None), (0.0, LABEL)):
        net = ExactNoise()
        model = exact(ddpm(net, (1,), levels=TABLE, label_drop=drop))
        model.sample(4, LABEL, guidance=1.0, steps=2)
        labels = [cond.label for cond in net.asked]
        assert all(x is None if seen is None else torch.equal(x, seen) for x in labels) and len(labels) == 2


def test_a_classifier_of_weights_guides_by_every_sampler_within_inference(seeded):
    data = Density2D(labels=True)
    model = classifier_guidance(
        edm(ResidualMLP((2,), width=8, depth=1), (2,), optim=AdamW()), VectorEncoder((2,), 8, width=8, depth=1),
        classes=data.classes, steps=2, classifier_steps=1, optim=AdamW(),
    )  # fmt: skip

    def drawn(sampler, label):
        return model.last.sample(6, label, guidance=3.0, sampler=sampler, steps=4, rng=torch.Generator().manual_seed(0))

    with torch.inference_mode():
        found = {name: drawn(name, torch.arange(6)) for name in model.last.samplers}
    assert all(x.isfinite().all() for x in found.values()) and len(found) > 5
    assert torch.equal(found["ddim"], drawn("ddim", torch.arange(6)))
    assert not torch.allclose(found["ddim"], drawn("ddim", 7 - torch.arange(6)))


# ---- training


def build(**more):
    diffusion = ddpm(ResidualMLP((2,), width=8, depth=1), (2,), levels=TABLE, optim=AdamW(1e-2))
    net = VectorEncoder((2,), 8, width=32, depth=1)
    return classifier_guidance(
        diffusion, net, **{"classes": 8, "steps": 5, "classifier_steps": 2, "optim": AdamW(1e-2), **more}
    )


def test_the_loss_is_the_cross_entropy_at_the_levels_of_the_diffusion(seeded):
    model = build().double().classifier
    x, label = torch.randn(32, 2, dtype=DOUBLE), torch.arange(32) % 8
    model.draws = Draws(4, 5)
    found = model.losses({"x": x, "label": label})["cross_entropy"]
    again = Draws(4, 5)
    s = TABLE[(again.uniform(32) * 50).long()]
    y = x + s[:, None] * again.normal(32, 2).double()
    logits = model.net(y / (1 + s[:, None] ** 2).sqrt(), s.log())
    expected = -logits.log_softmax(1)[torch.arange(32), label].mean()
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=0)


def test_training_brings_the_classifier_near_the_exact_one(seeded):
    """Below a tenth of what the uniform guess loses, in 250 steps."""
    data, model = Density2D(labels=True), build().classifier
    optimizer = model.configure_optimizers()["optimizer"]
    for step in range(250):
        model.draws = Draws(0, step)
        optimizer.zero_grad()
        model.losses(data.draw(256, torch.Generator().manual_seed(step)))["cross_entropy"].backward()
        optimizer.step()
    x = data.test(4096)["x"]
    s = TABLE[torch.arange(4096) % 50].float()
    y = x + s[:, None] * torch.randn(4096, 2, generator=torch.Generator().manual_seed(1))
    exact = data.density.log_label(y, s)
    with torch.no_grad():
        ours = model.logits(y, s).log_softmax(1).double()
    lost = (exact.exp() * (exact - ours)).sum(1).mean()
    uniform = (exact.exp() * (exact + torch.tensor(8.0).log())).sum(1).mean()
    assert 0 < lost < 0.1 * uniform


def test_the_classifier_comes_first_and_its_weights_are_held_once():
    model = build()
    assert [(s.name, s.steps) for s in model.stages] == [("classifier", 2), ("diffusion", 3)]
    assert {name.split(".")[0] for name in model.state_dict()} == {"classifier", "diffusion"}
    assert not any("classifier" in name for name in model.diffusion.state_dict())
    groups = model.configure_optimizers()["optimizer"].param_groups
    assert len(groups) == 2


def test_dropout_is_off_while_the_classifier_guides(seeded):
    model = build().classifier
    model.train()
    seen = []
    model.net.register_forward_hook(lambda net, args, out: seen.append(net.training))
    model.log_label(torch.zeros(4, 2), torch.ones(4), Cond(label=LABEL))
    assert seen == [False] and model.net.training


def test_decay_of_weights_is_apart_from_the_gradient():
    """With a gradient of 0, Adam's step is 0, and what stays of a weight is 1 - lr decay."""
    layer = nn.Linear(1, 1)
    before = layer.weight.detach().clone()
    made = AdamW(0.1, weight_decay=0.5).of(layer)
    (layer(torch.zeros(1, 1)) * 0).sum().backward()
    made["optimizer"].step()
    torch.testing.assert_close(layer.weight, before * 0.95)


# ---- bad input


def test_what_cannot_be_guided_is_refused():
    model, labels = build().last, torch.full((4,), 8)
    with pytest.raises(ValueError, match="give label"):
        model.sample(4, guidance=1.0)
    with pytest.raises(ValueError, match=r"Labels must be in 0\.\.7, not 8\.\.8"):
        model.sample(4, labels, guidance=1.0, steps=2)
    with pytest.raises(ValueError, match="without labels"):
        model.sample(4, LABEL)
    plain = ddpm(ResidualMLP((2,), width=8, depth=1, classes=3), (2,), levels=TABLE, label_drop=0.0)
    with pytest.raises(ValueError, match="hid its conditions"):
        plain.sample(4, LABEL, guidance=1.0)


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(ValueError, match="needs data with labels"):
        build(classes=0)
    with pytest.raises(ValueError, match="6 of 5 steps"):
        build(classifier_steps=6)
    model = build().classifier
    with pytest.raises(ValueError, match="data with labels"):
        model.losses({"x": torch.zeros(4, 2)})
    with pytest.raises(ValueError, match=r"Labels must be in 0\.\.7"):
        model.losses({"x": torch.zeros(4, 2), "label": torch.full((4,), 9)})
    with pytest.raises(ValueError, match="give label"):
        model.log_label(torch.zeros(4, 2), torch.ones(4), UNCONDITIONAL)
    assert isinstance(model, NoisyClassifier)
