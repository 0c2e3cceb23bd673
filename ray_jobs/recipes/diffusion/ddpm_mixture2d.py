"""DDPM on a mixture of Gaussians in the plane: the learned score against the exact one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe import Claim, Fit, Headline, fit

if TYPE_CHECKING:
    from datamodules.labs.density2d import Density2D
    from lightning_modules.diffusion.denoising import Denoising


@fit(
    system="DDPM",
    data="density2d",
    headline=Headline("Ho et al. 2020", arxiv="2006.11239"),
    claim=Claim("noise_excess", at_most=0.03),
    space={"lr": "loguniform(3e-4,1e-2)", "width": "choice(64,128,256)"},
    steps=3000,
    batch=1024,
    lr=3e-3,
    ema=0.998,
)
def ddpm_mixture2d(
    *, batch: int, lr: float, density: str = "ring", width: int = 64, depth: int = 3, levels: int = 200
) -> Fit:
    """DDPM on a mixture of Gaussians in the plane: the learned score against the exact one.

    DDPM with an MLP on points of a known mixture.

    Args:
        density: 'ring', 'grid' or 'pinwheel'.
        width: of the hidden layers.
        depth: residual blocks.
        levels: noise levels in training and sampling.
    """
    from datamodules.labs.density2d import Density2D
    from lightning_modules.diffusion import schedules
    from lightning_modules.diffusion.models.ddpm import ddpm
    from lightning_modules.nets.mlp import ResidualMLP
    from lightning_modules.optim import Adam

    points = Density2D(batch=batch, name=density, mixture=True)
    table = schedules.linear(levels, 0.1 / levels, 20 / levels)
    net = ResidualMLP(points.shape, width=width, depth=depth)
    model = ddpm(net, points.shape, levels=table, optim=Adam(lr, warmup=100), variance=schedules.forward)
    return Fit(model, points, evaluate)


def evaluate(model: Denoising, data: Density2D) -> dict[str, float]:
    """Excess of the noise's error over the least possible; samples over the sampling floor; shares of the components."""
    import torch

    from lightning_modules.metrics.gaussian import frechet_floor, frechet_of
    from lightning_modules.metrics.likelihood import noise_excess

    rng, truth = torch.Generator().manual_seed(0), data.density.moments()
    x = data.test(16384)["x"].to(model.device)
    excess, floor = noise_excess(model.denoiser(), data.density.denoise, x, model.bound.levels, rng=rng)
    drawn = model.sample(4096, rng=rng, batch=4096).cpu()
    return {
        "noise_excess": excess / floor,
        "frechet_ratio": frechet_of(drawn, truth) / frechet_floor(data.density.draw, truth, 4096, repeats=100),
        "component_share_error": data.density.coverage(drawn),
    }
