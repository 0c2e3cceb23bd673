"""WGAN on a grid of 25 Gaussians in the plane: how many it finds."""

from __future__ import annotations

from ray_jobs.recipe import Claim, Fit, Headline, fit
from ray_jobs.recipe.measures import modes_found


@fit(
    system="WGAN",
    data="density2d",
    headline=Headline("Arjovsky et al. 2017", arxiv="1701.07875"),
    claim=Claim("modes_hit", at_least=10),
    space={"lr": "loguniform(5e-5,2e-3)", "clip": "loguniform(0.01,0.3)"},
    steps=4000,
    batch=256,
    lr=5e-4,
    ema=0.999,
    log_every=50,
)
def wgan_grid(
    *,
    batch: int,
    lr: float,
    density: str = "sharp_grid",
    turns: int = 5,
    clip: float = 0.1,
    width: int = 128,
    depth: int = 3,
    noise: int = 2,
) -> Fit:
    """WGAN on a grid of 25 Gaussians in the plane: how many it finds.

    WGAN with multilayer perceptrons on points of a known mixture.

    Args:
        density: 'sharp_grid', with nearly nothing between its modes, or 'grid', whose broad modes even noise hits.
        turns: steps of the critic for each of the generator.
        clip: largest magnitude of the critic's weights.
        width: units of each hidden layer of both nets.
        depth: hidden layers of both nets.
        noise: numbers that the generator starts from.
    """
    from datamodules.labs.density2d import Density2D
    from lightning_modules.gan.wgan import WGAN
    from lightning_modules.nets.adversarial import dense_critic, dense_generator

    points = Density2D(batch=batch * turns, name=density)
    generator = dense_generator(noise, points.shape, width=width, depth=depth)
    critic = dense_critic(points.shape, width=width, depth=depth)
    model = WGAN(generator, critic, noise, turns=turns, clip=clip, lr=lr)
    return Fit(model, points, modes_found)
