"""Guidance of exact denoisers: the guided law of a Gaussian class is known, and a classifier's gradient makes the conditional denoiser."""

import pytest
import torch

from datamodules.labs.density2d import ring
from lightning_modules.diffusion import guidance, schedules
from lightning_modules.diffusion.samplers.ddim import ddim
from lightning_modules.diffusion.samplers.edm import heun

CLASS, ALL = 0.3, 1.2
"""Variances of a class N(0, CLASS) in N(0, ALL)."""


def of_variance(v):
    return lambda y, s: v / (v + s[:, None] ** 2) * y


def test_guidance_extrapolates_and_clipping_clips():
    cond, null = (lambda y, s: y + 1), (lambda y, s: y)
    y, s = torch.zeros(3, 2), torch.ones(3)
    assert (guidance.guided(cond, null, 0.0)(y, s) == 1).all()
    assert (guidance.guided(cond, null, 2.0)(y, s) == 3).all()
    assert (guidance.clipped(guidance.guided(cond, null, 2.0))(y, s) == 1).all()


@pytest.mark.parametrize("w", [0.0, 0.5, 1.5])
def test_the_guided_flow_of_a_gaussian_has_its_known_variance(w):
    """v (v / V)^w, not that of the tilted density: the flow's gain is [(v + s^2)^(1 + w) / (V + s^2)^w]^(-1/2) v^((1 + w)/2) V^(-w/2)."""
    grid, y = schedules.karras(400), torch.tensor([[1.0]], dtype=torch.float64)
    denoise = guidance.guided(of_variance(CLASS), of_variance(ALL), w)
    s2 = grid[0].item() ** 2
    start = (CLASS + s2) ** (1 + w) / (ALL + s2) ** w
    variance = heun(denoise, y, grid).item() ** 2 * start
    assert variance == pytest.approx(CLASS * (CLASS / ALL) ** w, rel=2e-3)
    if w == 1.5:
        assert variance == pytest.approx(0.0375, rel=2e-3)


def mixture():
    density = ring(4)
    labels = torch.arange(4).repeat(3)
    y = torch.randn(12, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return density, y, labels


@pytest.mark.parametrize("sigma", [0.05, 0.5, 5.0])
def test_the_exact_classifier_guides_to_the_conditional_denoiser(sigma):
    """D + s^2 grad log p(c | y) = D_c for every s, by autograd through the exact posterior of the component."""
    density, y, labels = mixture()
    s = torch.full((12,), sigma, dtype=torch.float64)

    def log_prob(y, s):
        of_parts, _ = density.parts(y, s)
        return of_parts.log_softmax(1).gather(1, labels[:, None])[:, 0]

    found = guidance.classifier_guided(density.denoise, log_prob)(y, s)
    _, solved = density.parts(y, s)
    expected = y - sigma**2 * solved[torch.arange(12), labels]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_a_classifier_guides_within_a_sampler():
    """Samplers run in inference mode, where a gradient needs care."""
    grid, y = schedules.karras(60), torch.tensor([[40.0]], dtype=torch.float64)

    def log_prob(y, s):  # of a class N(0, CLASS) in N(0, ALL), up to a constant
        return (-(y**2) / 2)[:, 0] * (1 / (CLASS + s**2) - 1 / (ALL + s**2))

    one = ddim(guidance.classifier_guided(of_variance(ALL), log_prob), y, grid)
    torch.testing.assert_close(one, ddim(of_variance(CLASS), y, grid), rtol=1e-9, atol=0)


def test_outside_the_interval_only_the_conditional_denoiser_is_evaluated():
    calls = []

    def null(y, s):
        calls.append(s[0].item())
        return y

    guide = guidance.in_interval(0.5, 2.0)
    denoise = guide(lambda y, s: y + 1, null, 2.0)
    y = torch.zeros(3, 2)
    answers = [denoise(y, torch.full((3,), s))[0, 0].item() for s in (0.5, 1.0, 2.0, 2.1)]
    assert answers == [1.0, 3.0, 3.0, 1.0]
    assert calls == [1.0, 2.0]


def test_rescaled_guidance_keeps_the_deviation_of_the_noise():
    y = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    cond, null = (lambda y, s: 0.5 * y), (lambda y, s: 0.1 * y.roll(1, -1))
    s = torch.ones(4)
    noise = y - guidance.rescaled(1.0)(cond, null, 3.0)(y, s)
    torch.testing.assert_close(noise.flatten(1).std(1), (0.5 * y).flatten(1).std(1))
    plain = guidance.guided(cond, null, 3.0)(y, s)
    torch.testing.assert_close(guidance.rescaled(0.0)(cond, null, 3.0)(y, s), plain)
    half = guidance.rescaled(0.5)(cond, null, 3.0)(y, s)
    torch.testing.assert_close(half, (plain + y - noise) / 2)


def thresholds(x, percentile=90.0):
    return guidance.thresholded(lambda y, sigma: x, percentile)(x, torch.ones(len(x)))


def some(scale, n=3):
    x = torch.randn(n, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    return x / x.abs().flatten(1).amax(1)[:, None, None, None] * scale


def test_dynamic_thresholding_keeps_what_is_in_the_range_and_never_leaves_it():
    assert torch.equal(thresholds(some(1.0)), some(1.0))
    for scale in (1.0, 1.2, 30.0):
        assert thresholds(some(scale)).abs().max() <= 1


def test_it_is_static_thresholding_where_the_percentile_is_at_most_one():
    x = some(1.0)
    x[:, 0, 0, :2] = 7.0  # 2 of 50 entries; the percentile is below them
    assert torch.equal(thresholds(x), x.clamp(-1, 1))


def test_above_one_it_forgets_the_scale_and_divides_by_the_percentile_of_each_example():
    x = some(8.0)
    torch.testing.assert_close(thresholds(3 * x), thresholds(x))
    a = x.abs().flatten(1).quantile(0.9, dim=1)[:, None, None, None]
    assert (a > 1).all()
    torch.testing.assert_close(thresholds(x), x.clamp(-a, a) / a)


def test_quantiles_are_those_of_torch():
    x = some(1.0).flatten(1)
    for share in (0.0, 0.3, 0.995, 1.0):
        torch.testing.assert_close(guidance.quantile(x, share), x.quantile(share, dim=1))


def test_a_percentile_that_is_none_is_refused():
    with pytest.raises(ValueError, match="not 101"):
        guidance.thresholded(lambda y, sigma: y, 101)
