"""The ResNet VAE: what its masked convolutions see, its posterior's density by brute force, and that its ratio is one of densities."""

import math

import pytest
import torch

from lightning_modules.draws import Draws
from lightning_modules.model import Density, Samples
from lightning_modules.optim import Adam
from lightning_modules.vae.resnet_vae import MaskedConvs, ResNetVAE


def small(**more) -> ResNetVAE:
    model = ResNetVAE((1, 4, 4), scales=2, blocks=1, width=6, size=2, levels=17, **more).double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


@pytest.mark.parametrize("size", [1, 3])
def test_masked_convolutions_see_what_comes_before_and_all_of_it_near_by(size, seeded):
    net = MaskedConvs(size, 12).double()
    z, context = torch.randn(size, 3, 3, dtype=torch.float64), torch.randn(1, 12, 3, 3, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda one: net(one[None], context)[0], z)
    by_place = jacobian.unflatten(0, (2, size)).permute(0, 2, 3, 1, 5, 6, 4).reshape(2, 9 * size, 9 * size)
    assert (by_place.triu() == 0).all()
    depends = by_place[:, -size:].abs().sum(0) > 0  # the last pixel, by all before it
    assert all(depends[c, : 8 * size].all() and depends[c, 8 * size : 8 * size + c].all() for c in range(size))


def test_its_density_is_that_of_the_change_of_variables(seeded):
    """Over the latents of all layers together, of which the lower depend on the higher."""
    model, x = small(), torch.rand(1, 1, 4, 4, dtype=torch.float64)
    params = [word.detach() for word in model.encoder(x)]
    eps = torch.randn(model.latents, dtype=torch.float64)

    def latents(e: torch.Tensor) -> torch.Tensor:
        return torch.cat([z.flatten() for z, _, _ in model.decoder(params, model.split_layers(e[None]))[1]])

    log_q = sum(q.sum() for _, q, _ in model.decoder(params, model.split_layers(eps[None]))[1])
    stretch = torch.linalg.slogdet(torch.autograd.functional.jacobian(latents, eps))[1]
    exact = torch.distributions.Normal(0.0, 1.0).log_prob(eps).sum() - stretch
    torch.testing.assert_close(log_q, exact, atol=1e-9, rtol=1e-9)


@torch.no_grad()
def test_prior_and_posterior_are_densities_of_the_same_latents(seeded):
    """The mean of p(z) / q(z | x) over draws of q is 1, within 4.5 standard errors."""
    model = small()
    for block in model.decoder.blocks:  # narrower than the prior, and the mean would take too many draws
        block[0].enter.bias[2:4].sub_(0.2)
    params = [word.expand(20_000, -1, -1, -1) for word in model.encoder(torch.rand(1, 1, 4, 4).double())]
    ratio = model.infer(params, torch.randn(20_000, model.latents, dtype=torch.float64)).log_ratio.exp()
    assert ratio.std() < 30
    assert abs(ratio.mean() - 1) < 4.5 * ratio.std() / math.sqrt(20_000)


def test_it_learns_scores_draws_and_shows(seeded):
    model = ResNetVAE((1, 8, 8), scales=2, blocks=1, width=12, size=4, levels=17, free_bits=0.05, optim=Adam(3e-3))
    assert isinstance(model, Samples) and isinstance(model, Density)
    bright = torch.randint(17, (64, 1, 1, 1)).expand(64, 1, 8, 8) / 8 - 1.0  # one number says it all
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    before = model.bits_per_dim(bright, k=2).mean()
    for step in range(120):
        model.draws = Draws(0, step)
        optimizer.zero_grad()
        sum(model.losses({"x": bright}).values()).backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    after = model.bits_per_dim(bright, k=2).mean()
    assert after < 0.7 * before
    x = model.sample(20, rng=torch.Generator().manual_seed(0))
    assert x.shape == (20, 1, 8, 8) and ((x + 1) * 8 % 1 == 0).all()

    class Same:
        def test(self, n):
            return {"x": bright[:n]}

    shown = model.pictures(Same(), torch.Generator().manual_seed(0))["reconstructions"]
    assert shown.shape == (64, 1, 8, 8) and torch.equal(shown[16:24], bright[8:16])


def test_sides_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="Images of 6x8 cannot be halved 2 times"):
        ResNetVAE((3, 6, 8))
