"""Systems as compositions: flow matching, v-prediction, EDM and score matching against their own papers' formulas."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn

from datamodules.labs.gauss_image import GaussImage
from lightning_modules.conditions import Cond, from_batch
from lightning_modules.diffusion import preconditioning, schedules, targets, weighting
from lightning_modules.diffusion.denoising import Bound, Denoising, Draw, Learn
from lightning_modules.diffusion.samplers.ancestral import fixed_variance
from lightning_modules.diffusion.samplers.ddim import ddim
from lightning_modules.diffusion.samplers.edm import heun
from lightning_modules.draws import Draws
from lightning_modules.model import Density, Samples
from lightning_modules.nets.mlp import ResidualMLP

DOUBLE = torch.float64
V, MEAN = 0.3, 0.2
"""Variance and mean of the Gaussian whose samplers are known."""


def net(shape=(3,)):
    made = ResidualMLP(shape, width=16, depth=1)
    nn.init.normal_(made.leave.weight, std=0.3)
    return made.double()


FLOW_GRID = schedules.from_flow_time(torch.linspace(0.9999, 0, 11, dtype=DOUBLE))


def flow_matching(made, shape=(3,)):
    return Denoising(
        made,
        shape,
        level_input=schedules.flow_time,
        precondition=preconditioning.flow,
        learn=Learn(levels=schedules.from_flow_time, weight=weighting.flow),
        draw=Draw(sampler=ddim, grid=lambda n: FLOW_GRID, steps=10, data_std=0.0),
    ).double()


def velocity_prediction(made, shape=(3,)):
    table = schedules.cosine(50)
    return Denoising(
        made,
        shape,
        level_input=torch.log,
        precondition=preconditioning.velocity,
        learn=Learn(levels=partial(schedules.discrete, levels=table), weight=weighting.min_snr),
        draw=Draw(sampler=partial(ddim, eta=0.5), grid=partial(schedules.spaced, table), steps=25, data_std=1.0),
    ).double()


def edm(made, shape=(3,), steps=12):
    return Denoising(
        made,
        shape,
        level_input=preconditioning.quarter_log,
        precondition=preconditioning.edm,
        learn=Learn(levels=schedules.log_normal, weight=weighting.edm),
        draw=Draw(sampler=heun, grid=schedules.karras, steps=steps, data_std=0.0),
    ).double()


def score_matching(made, shape=(3,)):
    """Ancestral steps in place of Langevin's."""
    table = torch.logspace(-2, 1, 20, dtype=DOUBLE)
    return Denoising(
        made,
        shape,
        level_input=torch.log,
        precondition=preconditioning.score,
        learn=Learn(levels=partial(schedules.discrete, levels=table), weight=weighting.simple),
        draw=Draw(
            sampler=fixed_variance(schedules.posterior),
            grid=partial(schedules.spaced, table),
            steps=20,
            data_std=0.0,
        ),
    ).double()


def loss_and_draws(model, x):
    """The model's loss of x, and the uniform numbers and the noise with which it was computed."""
    model.draws = Draws(4, 5)
    (loss,) = model.losses({"x": x}).values()
    again = Draws(4, 5)
    return loss, again.uniform(len(x)), again.normal(*x.shape).double()


def test_flow_matching_is_the_velocity_regression_and_its_ddim_is_euler(seeded):
    raw = net()
    model, x = flow_matching(raw), torch.randn(32, 3, dtype=DOUBLE)
    loss, u, n = loss_and_draws(model, x)
    t = (u.double())[:, None]
    expected = (raw((1 - t) * x + t * n, t[:, 0]) - (n - x)).square().mean()
    torch.testing.assert_close(
        loss, expected, rtol=1e-4, atol=0
    )  # u is float32, and 1 / (1 - u) magnifies its rounding
    drawn = model.sample(8, rng=torch.Generator().manual_seed(0))
    times = torch.linspace(0.9999, 0, 11, dtype=DOUBLE)
    at = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=DOUBLE) * times[0]  # x_t = (1 - t) y
    with torch.no_grad():
        for t, after in pairwise(times):
            at = at + (after - t) * raw(at, t.expand(8))
    torch.testing.assert_close(drawn, at, rtol=0, atol=1e-11)


def test_v_prediction_with_min_snr_is_that_papers_weight_of_v(seeded):
    """Hang et al. 2023, section 3.4: the weight of v is min(SNR, 5) / (SNR + 1)."""
    raw = net()
    model, x = velocity_prediction(raw), torch.randn(32, 3, dtype=DOUBLE)
    loss, u, n = loss_and_draws(model, x)
    s = schedules.cosine(50)[(u * 50).long()][:, None]
    alpha, snr = (1 + s**2).rsqrt(), s**-2
    v = alpha * n - s * alpha * x
    error = raw(alpha * x + s * alpha * n, s[:, 0].log()) - v
    torch.testing.assert_close(loss, (snr.clamp(max=5) / (snr + 1) * error.square()).mean())


def test_edm_has_the_loss_of_equation_8(seeded):
    raw = net()
    model, x = edm(raw), torch.randn(32, 3, dtype=DOUBLE)
    loss, u, n = loss_and_draws(model, x)
    s = schedules.log_normal(u).double()[:, None]
    root = (s**2 + 0.25).sqrt()
    target = (x - 0.25 / root**2 * (x + s * n)) * root / (0.5 * s)
    expected = (raw((x + s * n) / root, s[:, 0].log() / 4) - target).square().mean()
    torch.testing.assert_close(loss, expected)


def test_score_matching_regresses_on_the_noise(seeded):
    """Song & Ermon 2019, eq. 5 times 2: s^2 |score + n / s|^2 with score = F / s."""
    raw = net()
    model, x = score_matching(raw), torch.randn(32, 3, dtype=DOUBLE)
    loss, u, n = loss_and_draws(model, x)
    s = torch.logspace(-2, 1, 20, dtype=DOUBLE)[(u * 20).long()][:, None]
    score = raw(x + s * n, s[:, 0].log()) / s
    torch.testing.assert_close(loss, (s**2 * (score + n / s).square()).mean())


class Exact(nn.Module):
    """The raw network whose denoiser is exact for N(MEAN, V), or for a given exact denoiser."""

    def __init__(self, precondition, level_of, denoise=None):
        super().__init__()
        self.precondition, self.level_of = precondition, level_of
        self.denoise = denoise or (lambda y, s: (V * y + s[:, None] ** 2 * MEAN) / (V + s[:, None] ** 2))
        self.anchor = nn.Parameter(torch.zeros((), dtype=DOUBLE))

    def forward(self, x, level, cond):
        s = self.level_of(level)
        c_skip, c_out, c_in = (preconditioning.append_dims(c, x) for c in self.precondition(s))
        return (self.denoise(x / c_in, s) - c_skip * x / c_in) / c_out + self.anchor


def slope(s):
    return s / (V + s**2)


def euler(s, r):
    return 1 + (r - s) * slope(s), 0.0


def heun_step(s, r):
    h = r - s
    return 1 + h / 2 * (slope(s) + slope(r) * (1 + h * slope(s))) if r > 0 else 1 + h * slope(s), 0.0


def ddim_half(s, r):
    """Eta 0.5: (v + s q) / (v + s^2), q^2 = r^2 - u^2, u = eta r sqrt(s^2 - r^2) / s; adds u^2."""
    u = 0.5 * r * (s**2 - r**2).sqrt() / s
    return (V + s * (r**2 - u**2).sqrt()) / (V + s**2), u**2


def ancestral(s, r):
    return V / (V + s**2) * (1 - r**2 / s**2) + r**2 / s**2, r**2 * (s**2 - r**2) / s**2


SYSTEMS = {
    "Euler, flow matching": (flow_matching, preconditioning.flow, schedules.from_flow_time, euler),
    "DDIM of eta 0.5, v-prediction": (velocity_prediction, preconditioning.velocity, torch.exp, ddim_half),
    "Heun, EDM": (edm, preconditioning.edm, lambda level: (4 * level).exp(), heun_step),
    "ancestral, score matching": (score_matching, preconditioning.score, torch.exp, ancestral),
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_draws_of_the_exact_network_have_the_variance_computed_by_hand(system):
    """A step multiplies y - mean by a gain and adds variance. |error| < 5 standard errors: a false alarm once in a million."""
    build, precondition, level_of, step = SYSTEMS[system]
    model, count = build(Exact(precondition, level_of), (1,)), 50_000
    grid = model.draw.grid(model.draw.steps)
    variance, mean = model.draw.data_std**2 + grid[0] ** 2, -MEAN
    for s, r in pairwise(grid):
        gain, added = step(s, r)
        variance, mean = gain**2 * variance + added, gain * mean
    drawn = model.sample(count, rng=torch.Generator().manual_seed(0), batch=count)
    assert drawn.dtype == DOUBLE
    assert abs(drawn.var() - variance) < 5 * variance * (2 / count) ** 0.5
    assert abs(drawn.mean() - MEAN - mean) < 5 * (variance / count) ** 0.5


def test_the_default_bound_of_the_samplers_grid_is_a_bound_and_closes():
    """EDM's prior N(0, 80^2) and its grids: below the likelihood, nearer with more steps; 4 standard errors."""
    data = GaussImage(size=3)
    x = data.draw(2000, torch.Generator().manual_seed(0))["x"].double()
    gaps = []
    for steps in (20, 80):
        oracle = Exact(preconditioning.edm, lambda level: (4 * level).exp(), data.denoise)
        model = edm(oracle, data.shape, steps)
        assert isinstance(model, Density) and isinstance(model, Samples)
        loss = data.log_prob(x) - model.log_prob(x, rng=torch.Generator().manual_seed(1))
        gaps.append((loss.mean(), loss.std() / len(x) ** 0.5))
    assert gaps[0][0] > gaps[1][0] + 4 * gaps[0][1]
    assert gaps[1][0] > 4 * gaps[1][1]


def test_target_and_distance_are_parts(seeded):
    """A teacher's answer as the target, pseudo-Huber as the distance."""
    raw, teacher = net(), preconditioning.denoiser(lambda y, s: 0.1 * y, preconditioning.edm)
    model = edm(raw)
    model.learn = Learn(
        levels=schedules.log_normal,
        weight=torch.ones_like,
        target=lambda x0, y, sigma, n: teacher(y, sigma),
        distance=targets.pseudo_huber,
        name="distillation",
    )
    x = torch.randn(16, 3, dtype=DOUBLE)
    loss, u, n = loss_and_draws(model, x)
    s = schedules.log_normal(u).double()
    y = x + s[:, None] * n
    gap = (model.denoiser()(y, s) - teacher(y, s)).norm(dim=1)
    torch.testing.assert_close(loss, ((gap**2 + 0.03**2).sqrt() - 0.03).mean())
    assert list(model.losses({"x": x})) == ["distillation"]


class Halved(nn.Module):
    """A first stage: pairs of numbers become their sum; decoding shares it out equally."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def latent_shape(self, shape):
        return (shape[0] // 2,)

    def encode(self, x, draws):
        return x.unflatten(1, (-1, 2)).sum(2) + 0 * draws.normal(len(x), 1)

    def decode(self, z):
        return (z / 2).repeat_interleave(2, 1)


def test_the_diffusion_takes_place_in_its_space(seeded):
    raw = net()
    parts = edm(raw)
    model = Denoising(
        raw,
        (6,),
        level_input=parts.level_input,
        precondition=parts.precondition,
        learn=parts.learn,
        draw=parts.draw,
        space=Halved(),
    ).double()
    x = torch.randn(5, 6, dtype=DOUBLE)
    model.draws = Draws(1, 2, count=0)
    parts.draws = Draws(1, 2, count=1)  # the first stage drew first
    latents = x.unflatten(1, (-1, 2)).sum(2)
    torch.testing.assert_close(model.losses({"x": x}), parts.losses({"x": latents}))
    drawn = model.sample(4, rng=torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn, Halved().decode(parts.sample(4, rng=torch.Generator().manual_seed(0))))
    with pytest.raises(ValueError, match="in the space of Halved has no bound"):
        model.log_prob(x)
    moved = {id(p) for group in model.configure_optimizers()["optimizer"].param_groups for p in group["params"]}
    assert moved == {id(p) for p in model.net.parameters()}


class Listens(nn.Module):
    """Answers 0 and remembers its conditions."""

    def __init__(self):
        super().__init__()
        self.anchor, self.conds = nn.Parameter(torch.zeros(())), []

    def forward(self, x, level, cond):
        self.conds.append(cond)
        return x * 0 + self.anchor


def listening(hide):
    parts = edm(net())
    return Denoising(
        Listens(),
        (3,),
        level_input=parts.level_input,
        precondition=parts.precondition,
        learn=parts.learn,
        draw=parts.draw,
        bound=Bound(levels=schedules.linear(5, 0.1, 0.5)),
        conditions=lambda batch: Cond(label=batch["label"], vector=batch["v"]),
        hide=hide,
    )


def test_each_condition_is_hidden_at_its_own_rate_as_a_function_of_the_draws():
    """Within 5 standard deviations of binomials; the two are hidden independently."""
    model, n = listening({"label": 0.5, "vector": 0.1}), 4000
    batch = {"x": torch.zeros(n, 3), "label": torch.zeros(n, dtype=torch.long), "v": torch.zeros(n, 2)}
    for _ in range(2):
        model.draws = Draws(3, 7)
        model.losses(batch)
    first, second = (cond.hidden for cond in model.net.conds)
    assert all(torch.equal(first[k], second[k]) for k in ("label", "vector"))
    for rows, p in [(first["label"], 0.5), (first["vector"], 0.1), (first["label"] & first["vector"], 0.05)]:
        assert abs(rows.sum() - n * p) < 5 * (n * p * (1 - p)) ** 0.5
    assert (model.net.conds[0].label == 0).all()


def test_guidance_leaves_out_what_was_hidden_and_keeps_the_rest():
    model = listening({"label": 0.2})
    cond = Cond(label=torch.tensor([0, 1, 2]), vector=torch.randn(3, 2))
    model.sample(3, cond, steps=1, guidance=2.0, batch=2)
    given = [sorted(c.given) for c in model.net.conds]
    assert given == [["label", "vector"], ["vector"]] * 2
    assert [c.size for c in model.net.conds] == [2, 2, 1, 1]
    with pytest.raises(ValueError, match="4 examples are to be drawn, but the conditions are of 3"):
        model.sample(4, cond)
    with pytest.raises(ValueError, match="hid its conditions"):
        listening({}).sample(3, cond, guidance=1.0)


def test_a_model_starts_from_the_weights_of_another_run():
    one, two = edm(net()), edm(net())
    two.start({"net": one.net.state_dict()})
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    with pytest.raises(ValueError, match="The weights for 'net' do not fit"):
        two.start({"net": one.state_dict()})


def test_sampling_stops_at_a_level_with_what_is_there(seeded):
    model = edm(net())
    grid = model.draw.grid(12)
    at, between = grid[7].item(), 0.5 * (grid[7] + grid[8]).item()
    for until, levels in ((at, grid[:8]), (between, torch.cat([grid[:8], grid.new_tensor([between])]))):
        found = model.sample(4, rng=torch.Generator().manual_seed(1), until=until)
        n = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
        torch.testing.assert_close(found, heun(model.denoiser(), grid[0] * n, levels))
    with pytest.raises(ValueError, match="from 0 to below that, not at 80"):
        model.sample(4, until=80.0)


def test_dynamic_thresholding_comes_after_guidance(seeded):
    made = ResidualMLP((3,), width=16, depth=1, classes=2)
    nn.init.normal_(made.leave.weight, std=3.0)
    model = edm(made.double())
    model.conditions, model.hide = from_batch("label"), {"label": 0.1}
    model.draw = replace(model.draw, dynamic=50.0, clip=(-1.0, 1.0), grid=lambda n: torch.tensor([80.0, 0.0]))
    label, n = torch.tensor([0, 1]), torch.randn(2, 3, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    found = model.sample(2, label, guidance=2.0, rng=torch.Generator().manual_seed(1))
    y, s = 80 * n, torch.full((2,), 80.0, dtype=DOUBLE)
    x0 = 3 * model.denoiser(label)(y, s) - 2 * model.denoiser()(y, s)
    a = x0.abs().median(1).values.clamp(min=1)[:, None]
    assert (a > 1).any()
    torch.testing.assert_close(found, (x0.clamp(-a, a) / a).detach())
