"""DDPM on a known Gaussian: how far the learned noise, bound and samples are from the exact optimum."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe import Claim, Fit, Headline, fit

if TYPE_CHECKING:
    from datamodules.labs.gauss_image import GaussImage
    from lightning_modules.diffusion.denoising import Denoising


@fit(
    system="DDPM",
    data="gauss_image",
    headline=Headline("Ho et al. 2020", arxiv="2006.11239"),
    claim=Claim("noise_excess", at_most=0.03),
    space={"lr": "loguniform(3e-4,1e-2)", "width": "choice(64,128,256)"},
    steps=3000,
    batch=512,
    lr=2e-3,
    ema=0.998,
)
def ddpm_gauss_image(
    *, batch: int, lr: float, width: int = 128, depth: int = 2, levels: int = 200, size: int = 8
) -> Fit:
    """DDPM on a known Gaussian: how far the learned noise, bound and samples are from the exact optimum.

    DDPM with an MLP on Gaussian images whose denoiser, bound and entropy are known.

    Args:
        width: of the hidden layers.
        depth: residual blocks.
        levels: noise levels in training and sampling.
        size: height and width of the images.
    """
    from datamodules.labs.gauss_image import GaussImage
    from lightning_modules.diffusion import schedules
    from lightning_modules.diffusion.models.ddpm import ddpm
    from lightning_modules.nets.mlp import ResidualMLP
    from lightning_modules.optim import Adam

    laboratory = GaussImage(batch=batch, size=size)
    net = ResidualMLP(laboratory.shape, width=width, depth=depth)
    table = schedules.linear(levels, 0.1 / levels, 20 / levels)
    model = ddpm(net, laboratory.shape, levels=table, optim=Adam(lr, warmup=100), variance=schedules.forward)
    return Fit(model, laboratory, evaluate)


def evaluate(model: Denoising, data: GaussImage) -> dict[str, float]:
    """Excess of the noise's error over the least possible; nats lost in the bound; samples over the sampling floor."""
    import torch

    from lightning_modules.metrics.gaussian import frechet_floor, frechet_of
    from lightning_modules.metrics.likelihood import noise_excess

    rng, truth = torch.Generator().manual_seed(0), (data.mean, data.cov)
    x = data.test(8192)["x"].to(model.device)
    excess, floor = noise_excess(model.denoiser(), data.denoise, x, model.bound.levels, rng=rng)
    bound = model.log_prob(x[:2048], terms=50, rng=rng).double().mean().item()
    drawn = frechet_of(model.sample(4096, rng=rng).cpu(), truth)
    return {
        "noise_excess": excess / floor,
        "bound_lost": (data.best_bound(model.bound.levels, model.bound.variance) - bound) / x[0].numel(),
        "frechet_ratio": drawn / frechet_floor(lambda n, g: data.draw(n, g)["x"], truth, 4096),
    }
