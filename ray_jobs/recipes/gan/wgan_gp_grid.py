"""WGAN-GP on a grid of 25 Gaussians in the plane: how many it finds."""

from __future__ import annotations

from ray_jobs.recipe import Claim, Fit, Headline, fit
from ray_jobs.recipe.measures import modes_found


@fit(
    system="WGAN-GP",
    data="density2d",
    headline=Headline("Gulrajani et al. 2017", arxiv="1704.00028"),
    claim=Claim("modes_hit", at_least=25),
    space={"lr": "loguniform(1e-4,3e-3)", "penalty": "loguniform(0.03,10)"},
    steps=4000,
    batch=256,
    lr=1e-3,
    ema=0.999,
    log_every=50,
)
def wgan_gp_grid(
    *,
    steps: int,
    batch: int,
    lr: float,
    density: str = "sharp_grid",
    turns: int = 5,
    penalty: float = 0.1,
    width: int = 128,
    depth: int = 3,
    noise: int = 2,
) -> Fit:
    """WGAN-GP on a grid of 25 Gaussians in the plane: how many it finds.

    WGAN-GP with multilayer perceptrons on points of a known mixture.

    Args:
        density: 'sharp_grid', with nearly nothing between its modes, or 'grid', whose broad modes even noise hits.
        turns: steps of the critic for each of the generator.
        penalty: weight of the gradient penalty.
        width: units of each hidden layer of both nets.
        depth: hidden layers of both nets.
        noise: numbers that the generator starts from.
    """
    from datamodules.labs.density2d import Density2D
    from lightning_modules.gan.wgan_gp import WGANGP
    from lightning_modules.nets.adversarial import dense_critic, dense_generator

    points = Density2D(batch=batch * turns, name=density)
    generator = dense_generator(noise, points.shape, width=width, depth=depth)
    critic = dense_critic(points.shape, width=width, depth=depth)
    model = WGANGP(generator, critic, noise, turns=turns, penalty=penalty, lr=lr, until=steps)
    return Fit(model, points, modes_found)
