"""VAEs against models whose evidence is exact, and each part against its definition."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lightning_modules import objectives
from lightning_modules.draws import Draws
from lightning_modules.model import Density, Samples
from lightning_modules.nets.conditioned import MLP
from lightning_modules.vae import linear
from lightning_modules.vae.flow_prior import FlowPriorVAE
from lightning_modules.vae.iaf_vae import IAFVAE, gated
from lightning_modules.vae.likelihood import Bernoulli, DiscretisedLogistic, Gaussian
from lightning_modules.vae.vae import VAE, free_bits_kl, kl_weight, narrow_start

SIZE, LATENTS = 6, 3


def covariance(size: int = SIZE) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(5)
    root = torch.randn(size, size, generator=rng, dtype=torch.float64)
    return torch.randn(size, generator=rng, dtype=torch.float64), root @ root.T / size + 0.1 * torch.eye(size)


def points(n: int, mean: torch.Tensor, cov: torch.Tensor, seed: int = 0) -> torch.Tensor:
    z = torch.randn(n, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return mean + z @ torch.linalg.cholesky(cov).T


def correlated(variance: float = 1.0) -> linear.LinearGaussian:
    """A model whose latents depend on each other given x, the more the smaller the variance."""
    rng = torch.Generator().manual_seed(2)
    loading = torch.randn(SIZE, LATENTS, generator=rng, dtype=torch.float64) * 0.3 + 0.7
    return linear.LinearGaussian(loading, torch.zeros(SIZE).double(), torch.tensor(variance).double())


def shaken(model: nn.Module, by: float = 0.3) -> nn.Module:
    with torch.no_grad():
        for p in model.parameters():
            p.add_(by * torch.randn_like(p))
    return model


def images(kind: type, likelihood, **more):
    extra = more.get("context", 0)
    encoder = nn.Sequential(nn.Flatten(), MLP(16, 2 * LATENTS + extra, width=12))
    decoder = nn.Sequential(
        MLP(LATENTS, 16 * likelihood.outputs, width=12), nn.Unflatten(1, (likelihood.outputs, 4, 4))
    )
    return kind(encoder, decoder, likelihood, (1, 4, 4), LATENTS, **more)


KINDS = {"vae": (VAE, {}), "iaf": (IAFVAE, {"context": 4}), "prior": (FlowPriorVAE, {})}

# ---- the linear VAE and its exact evidence


def test_the_bound_of_the_closed_form_is_the_evidence_of_probabilistic_pca():
    """At every example and draw, for the posterior is exact."""
    mean, cov = covariance()
    best = linear.ppca(mean, cov, LATENTS)
    model = linear.set_optimum(linear.linear_vae((SIZE,), LATENTS).double(), best)
    x = points(50, mean, cov)
    with torch.no_grad():
        torch.testing.assert_close(model.log_prob(x), best.log_prob(x), atol=1e-9, rtol=0)
        torch.testing.assert_close(model.log_prob(x, k=7), best.log_prob(x), atol=1e-9, rtol=0)


def test_the_closed_form_is_the_best_linear_gaussian_model():
    """Its evidence is that of a model fitted to the moments by gradients; no step away from it gains."""
    mean, cov = covariance()
    best = linear.ppca(mean, cov, LATENTS)
    rng = torch.Generator().manual_seed(0)
    x = points(4000, mean, cov)
    x = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T, correction=0))).T
    x = mean + x @ torch.linalg.cholesky(cov).T  # whose mean and covariance are exact
    top = best.log_prob(x).mean()
    for _ in range(30):
        off = 0.05 * torch.randn(best.loading.shape, generator=rng, dtype=torch.float64)
        other = linear.LinearGaussian(best.loading + off, mean, best.variance * (1 + 0.05 * off[0, 0]))
        assert other.log_prob(x).mean() < top


def test_turning_the_latents_changes_their_dependence_alone():
    mean, cov = covariance()
    best = linear.ppca(mean, cov, LATENTS)
    other, x = linear.rotated(best, torch.Generator().manual_seed(0)), points(20, mean, cov)
    torch.testing.assert_close(other.log_prob(x), best.log_prob(x))
    assert abs(best.diagonal_gap()) < 1e-9 < 1e-2 < other.diagonal_gap()


class Cubature:
    """In place of random numbers, the 2 L points +-sqrt(L) e_i, over which the mean of any quadratic is exact."""

    step = 0

    def normal(self, rows: int, size: int, device=None) -> torch.Tensor:
        corner = math.sqrt(size) * torch.eye(size, dtype=torch.float64)
        return torch.cat([corner, -corner]).repeat_interleave(rows // (2 * size), 0)


def test_training_by_an_exact_optimiser_reaches_the_evidence(seeded):
    """Within 1e-6 nats, from random weights: L-BFGS on the very losses of the training, with the draws' mean taken exactly."""
    mean, cov = covariance()
    x = points(200, mean, cov)
    best = linear.ppca(x.mean(0), torch.cov(x.T, correction=0), LATENTS)
    model = linear.linear_vae((SIZE,), LATENTS).double()
    model.draws = Cubature()
    batch = {"x": x.repeat(2 * LATENTS, 1)}
    exact = {"tolerance_grad": 1e-9, "tolerance_change": 1e-13, "line_search_fn": "strong_wolfe"}
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=1000, **exact)

    def closure():
        optimizer.zero_grad()
        loss = sum(model.losses(batch).values())
        loss.backward()
        return loss

    optimizer.step(closure)
    bound = -SIZE * sum(model.losses(batch).values()).item()
    assert abs(bound - best.log_prob(x).mean().item()) < 1e-6
    torch.testing.assert_close(linear.as_linear_gaussian(model).log_prob(x), best.log_prob(x), atol=1e-2, rtol=0)


def test_more_draws_tighten_the_bound_up_to_the_evidence():
    """The gap of one draw is the exact divergence of the posterior within 4 standard errors; with more draws it shrinks."""
    truth = correlated(4.0)
    model = linear.set_optimum(linear.linear_vae((SIZE,), LATENTS).double(), truth)
    x = points(3000, truth.mean, truth.loading @ truth.loading.T + truth.variance * torch.eye(SIZE))
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        gaps = torch.stack([truth.log_prob(x) - model.log_prob(x, k=k, rng=rng) for k in (1, 5, 50, 500)])
    means, errors = gaps.mean(1), gaps.std(1) / math.sqrt(len(x))
    assert truth.diagonal_gap() > 0.1
    assert abs(means[0] - truth.diagonal_gap()) < 4 * errors[0]
    assert (means > -4 * errors).all()
    assert (means.diff() < 0).all()
    assert means[-1] < 0.01


# ---- parts against their definitions


@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_in_training_is_the_mean_of_the_log_weights(kind, seeded):
    """Closed-form divergences and sampled ones have the same mean; within 4.5 standard errors."""
    make, more = KINDS[kind]
    model = shaken(images(make, Gaussian(), **more)).double()
    x = torch.randn(1, 1, 4, 4, dtype=torch.float64).expand(40_000, 1, 4, 4)
    model.draws = Draws(3)
    with torch.no_grad():
        trained = -16 * sum(model.losses({"x": x}).values())
        weights = model.log_weight(x, model.encoder(x), torch.randn(len(x), LATENTS, dtype=torch.float64))
    assert abs(trained - weights.mean()) < 4.5 * 1.5 * weights.std() / math.sqrt(len(x))


@pytest.mark.parametrize("free", [0.5, 2.0])
def test_free_bits_by_definition(free):
    """Kingma et al. 2016, eq. 15: the larger of `free` and the mean over the minibatch, summed over groups."""
    kl = torch.rand(7, 4, generator=torch.Generator().manual_seed(1)) * torch.tensor([0.1, 1.0, 3.0, 6.0])
    kl.requires_grad_()
    loss = free_bits_kl(kl, free)
    assert loss.item() == pytest.approx(sum(max(free, kl[:, j].mean().item()) for j in range(4)))
    loss.backward()
    assert torch.equal(kl.grad[0] > 0, kl.detach().mean(0) > free)
    halves = [free_bits_kl(part, free, kl.mean(0)) for part in kl.detach()[:6].chunk(2)]
    assert sum(halves).item() / 2 == pytest.approx(free_bits_kl(kl.detach()[:6], free, kl.mean(0)).item())


def test_free_bits_are_decided_by_all_workers_together(seeded):
    """A worker whose own mean is on the other side goes by the mean of all."""
    model, kl = images(VAE, Gaussian(), free_bits=1.0), torch.tensor([[0.5, 3.0, 1.5]])
    whole = torch.tensor([1.2, 2.0, 0.9])
    model._trainer = SimpleNamespace(world_size=2, strategy=SimpleNamespace(reduce=lambda mean, reduce_op: whole))
    assert model.kl_loss(kl).item() == pytest.approx(0.5 + 3.0 + 1.0)


def test_groups_of_latents_share_what_is_free(seeded):
    model = images(VAE, Gaussian(), free_bits=0.7, group_size=3)
    kl = torch.rand(5, 3)
    assert model.kl_loss(kl).item() == pytest.approx(max(0.7, kl.sum(1).mean().item()))
    with pytest.raises(ValueError, match="3 latents do not divide into groups of 2"):
        images(VAE, Gaussian(), group_size=2)


def test_the_divergence_rises_with_the_step(seeded):
    assert [kl_weight(s, 4) for s in (0, 1, 3, 9)] == [0.25, 0.5, 1.0, 1.0] and kl_weight(0, 0) == 1
    model, x = shaken(images(VAE, Gaussian(), kl_annealing=10)), torch.randn(5, 1, 4, 4)
    early, late = (model.losses({"x": x})["kl"] for model.draws in (Draws(0, 4), Draws(0, 99)))
    torch.testing.assert_close(early, late / 2)


def test_a_narrow_start_tells_examples_apart_and_the_decoder_hears_it(seeded):
    x, encoder, decoder = torch.randn(50, 2), MLP(2, 2 * 3 + 5, width=16), MLP(3, 2, width=16)
    assert encoder(x).abs().max() == 0
    narrow_start(encoder, decoder, 3, std=0.1)
    mean, log_std = encoder(x)[:, :6].chunk(2, 1)
    assert (mean.std(0) > 0.02).all() and (log_std.exp().mean(0) - 0.1).abs().max() < 0.05
    assert (decoder(mean).std(0) > 1e-3).all()


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_logistic_levels_are_a_distribution(levels):
    x = torch.linspace(-1, 1, levels, dtype=torch.float64)[:, None]
    mean = torch.tensor([-3.0, -0.99, 0.1, 0.7, 40.0], dtype=torch.float64)
    log_scale = torch.tensor([-1.0, -6.0, 0.5, -3.0, -2.0], dtype=torch.float64)
    log_p = objectives.discretised_logistic_log_prob(x, mean, log_scale, levels)
    torch.testing.assert_close(log_p.exp().sum(0), torch.ones_like(mean), atol=1e-12, rtol=0)
    half = 1 / (levels - 1)
    ends = [((x + d - mean) / log_scale.exp()).sigmoid() for d in (half, -half)]
    ends[0][-1], ends[1][0] = 1.0, 0.0
    ample = (ends[0] - ends[1]) > 1e-6
    torch.testing.assert_close(log_p[ample], (ends[0] - ends[1]).log()[ample], atol=1e-8, rtol=1e-8)
    single = objectives.discretised_logistic_log_prob(x.float(), mean.float(), log_scale.float(), levels)
    assert single.isfinite().all()


@pytest.mark.parametrize(
    "likelihood", [Bernoulli(), DiscretisedLogistic(5, per_element=True), DiscretisedLogistic(3)], ids=str
)
def test_levels_are_drawn_as_often_as_they_are_likely(likelihood):
    """Each level's share within 4.5 standard errors."""
    levels = getattr(likelihood, "levels", 2)
    out = torch.tensor([0.3, -1.0])[: likelihood.outputs].reshape(1, -1, 1, 1).expand(20_000, -1, 1, 1)
    drawn = likelihood.draw(out, torch.Generator().manual_seed(0))
    for level in torch.linspace(-1, 1, levels):
        p = likelihood.log_prob(level.reshape(1, 1, 1, 1), out[:1]).exp().item()
        share = (drawn - level).abs().lt(1e-6).float().mean().item()
        assert abs(share - p) < 4.5 * math.sqrt(p * (1 - p) / 20_000) + 1e-9


def test_gaussian_numbers_against_torchs_own():
    out, x = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0)).double()
    likelihood = Gaussian(0.5, per_element=True)
    mean, log_std = out.chunk(2, 1)
    exact = torch.distributions.Normal(mean, 0.5 * log_std.exp()).log_prob(x[:, :2]).sum(1)
    torch.testing.assert_close(likelihood.log_prob(x[:, :2], out), exact, atol=1e-6, rtol=1e-6)


# ---- the autoregressive posterior


def test_its_density_is_that_of_the_change_of_variables(seeded):
    model = shaken(images(IAFVAE, Gaussian(), context=4, depth=3)).double()
    params, eps = torch.randn(4, 2 * LATENTS + 4, dtype=torch.float64), torch.randn(4, LATENTS, dtype=torch.float64)
    log_q = model.posterior(params, eps)[1]
    for i in range(4):
        jacobian = torch.autograd.functional.jacobian(
            lambda e, i=i: model.posterior(params[i : i + 1], e[None])[0][0], eps[i]
        )
        base = torch.distributions.Normal(0.0, 1.0).log_prob(eps[i]).sum()
        torch.testing.assert_close(log_q[i].sum(), base - torch.linalg.slogdet(jacobian)[1], atol=1e-9, rtol=1e-9)
        assert jacobian.tril(-1).abs().max() > 1e-3 and jacobian.triu(1).abs().max() > 1e-3  # all depend on all


def test_gates_by_definition():
    """Kingma et al. 2016, algorithm 1: z -> g z + (1 - g) m."""
    gate, m, z = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    scale, shift = gated(torch.cat([gate, m], 1), open=0.7)
    g = (gate + 0.7).sigmoid()
    torch.testing.assert_close(z * scale.exp() + shift, g * z + (1 - g) * m)


class Known(nn.Module):
    """A linear encoder that begins with the exact posterior means: [B, 2 L + context]."""

    def __init__(self, truth: linear.LinearGaussian, context: int = 0) -> None:
        super().__init__()
        self.gain = nn.Linear(SIZE, LATENTS)
        with torch.no_grad():
            self.gain.weight.copy_(truth.posterior()[0])
        self.rest = nn.Parameter(torch.zeros(LATENTS + context))

    def forward(self, x):
        mean = self.gain(x)
        return torch.cat([mean, self.rest.expand(len(x), -1)], 1)


def gap_of(kind: type, steps: int = 700, **more) -> tuple[float, float]:
    """Nats by which a posterior trained for a fixed model misses the evidence, and their standard error."""
    truth = correlated()
    decoder = nn.Sequential(nn.Linear(LATENTS, SIZE), nn.Unflatten(1, (SIZE,)))
    model = kind(Known(truth, more.get("context", 0)), decoder, Gaussian(), (SIZE,), LATENTS, **more)
    linear.fix_decoder(model, truth)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)
    cov = truth.loading @ truth.loading.T + truth.variance * torch.eye(SIZE)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / steps)
        model.draws = Draws(0, step)
        optimizer.zero_grad()
        sum(model.losses({"x": points(256, truth.mean, cov, step).float()}).values()).backward()
        optimizer.step()
    x = points(20_000, truth.mean, cov, 10**6)
    with torch.no_grad():
        gap = truth.log_prob(x) - model.log_prob(x.float(), rng=torch.Generator().manual_seed(1))
    return gap.mean().item(), gap.std().item() / math.sqrt(len(x))


def test_it_closes_the_gap_that_independent_latents_must_leave(seeded):
    """The posterior is known to be correlated: the diagonal one misses by an exact number of nats, within 5 standard errors
    and what training leaves; the autoregressive one by less than a twentieth of it."""
    exact = correlated().diagonal_gap()
    (diagonal, error), (ours, _) = gap_of(VAE), gap_of(IAFVAE, context=2, depth=1, hidden=(32,))
    assert abs(diagonal - exact) < 5 * error + 0.01 * exact
    assert ours < exact / 20


# ---- the flow as prior


def test_a_flow_prior_is_a_density_and_its_draws_follow_it(seeded):
    """On the plane it integrates to 1; the mean of its log density over draws is its integral within 4 standard errors."""
    make = lambda kind: kind(nn.Identity(), nn.Linear(2, 2), Gaussian(), (2,), 2)  # noqa: E731
    model = shaken(make(FlowPriorVAE), 0.2)
    side = torch.linspace(-15, 15, 801)
    grid = torch.cartesian_prod(side, side)
    with torch.no_grad():
        log_p = model.log_prior(grid).double().sum(1)
        cell = ((side[1] - side[0]) ** 2).item()
        drawn = model.log_prior(model.draw_prior(torch.randn(20_000, 2))).double().sum(1)
    assert (log_p.exp().sum() * cell).item() == pytest.approx(1, abs=1e-2)
    assert abs(drawn.mean() - (log_p.exp() * log_p).sum() * cell) < 4 * drawn.std() / math.sqrt(20_000) + 0.02


def test_a_flow_prior_learns_what_the_posteriors_fill_together(seeded):
    """The posteriors of 16 examples lie along a bow, fixed. Under any prior the divergence is the mutual information of x and z
    plus that of their mixture from the prior; the mixture is known. What the flow pays above the information is below 0.05
    nats, where N(0, I) pays more than one."""
    std, at = 0.3, torch.linspace(-2, 2, 16)
    centres = torch.stack([at, at.square() - 1], 1)
    model = FlowPriorVAE(nn.Identity(), nn.Linear(2, 2), Gaussian(), (2,), 2, depth=3, hidden=(32,))

    def drawn(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rng = torch.Generator().manual_seed(seed)
        params = torch.cat([centres, torch.full_like(centres, math.log(std))], 1)[
            torch.randint(16, (n,), generator=rng)
        ]
        return params, *model.posterior(params, torch.randn(n, 2, generator=rng))

    optimizer = torch.optim.Adam(model.prior.parameters(), 1e-2)
    for step in range(1000):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 1000)
        optimizer.zero_grad()
        model.divergence(*drawn(256, step)).mean().backward()
        optimizer.step()
    with torch.no_grad():
        params, z, log_q = drawn(40_000, 10**6)
        mixture = objectives.gaussian_log_prob(z[:, None], centres, torch.tensor(std)).sum(2).logsumexp(1) - math.log(
            16
        )
        information = (log_q.sum(1) - mixture).mean()
        plain = VAE.log_prior(model, z).sum(1)
        over = model.divergence(params, z, log_q).mean() - information
    assert -0.01 < over < 0.05
    assert (mixture - plain).mean() > 1


# ---- all of them


@pytest.mark.parametrize("kind", KINDS)
def test_it_scores_draws_and_shows(kind, seeded):
    make, more = KINDS[kind]
    model = shaken(images(make, DiscretisedLogistic(17, per_element=True), **more))
    assert isinstance(model, Samples) and isinstance(model, Density)
    x = model.sample(20, rng=torch.Generator().manual_seed(0))
    assert x.shape == (20, 1, 4, 4) and torch.equal(x, model.sample(20, rng=torch.Generator().manual_seed(0)))
    assert ((x + 1) * 8 % 1 == 0).all() and x.abs().max() <= 1
    assert model.bits_per_dim(x, k=3).shape == (20,)

    class Same:
        def test(self, n):
            return {"x": x[:n]}

    shown = model.pictures(Same(), torch.Generator().manual_seed(0))
    assert {k: v.shape for k, v in shown.items()} == {"reconstructions": (32, 1, 4, 4), "interpolations": (64, 1, 4, 4)}
    assert torch.equal(shown["reconstructions"][:8], x[:8])
    with pytest.raises(ValueError, match=r"takes examples of shape \(1, 4, 4\), not \(1, 4, 5\)"):
        model.log_prob(torch.zeros(2, 1, 4, 5))
    with pytest.raises(ValueError, match="without labels"):
        model.sample(2, torch.zeros(2))
