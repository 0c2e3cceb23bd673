"""What recipes of diffusion share: measures on data whose denoiser is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datamodules.labs.density2d import Density2D
    from datamodules.labs.gauss_image import GaussImage
    from lightning_modules.diffusion.denoising import Denoising


def against_optimum(model: Denoising, data: GaussImage) -> dict[str, float]:
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


def against_mixture(model: Denoising, data: Density2D) -> dict[str, float]:
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
