"""WGAN on a grid of 25 Gaussians in the plane: how many it finds."""

from __future__ import annotations

from ray_jobs.recipe.measures import modes_found
from ray_jobs.recipe.plan import Claim, Fit, Headline

system = "WGAN"
data = "density2d"
headline = Headline("Arjovsky et al. 2017", arxiv="1701.07875")
claim = Claim("modes_hit", at_least=10)
space = {"lr": "loguniform(5e-5,2e-3)", "clip": "loguniform(0.01,0.3)"}


def recipe(
    *,
    density: str = "sharp_grid",
    steps: int = 4000,
    batch: int = 256,
    turns: int = 5,
    clip: float = 0.1,
    lr: float = 5e-4,
    width: int = 128,
    depth: int = 3,
    noise: int = 2,
    ema: float = 0.999,
) -> Fit:
    """WGAN with multilayer perceptrons on points of a known mixture.

    Args:
        density: 'sharp_grid', with nearly nothing between its modes, or 'grid', whose broad modes even noise hits.
        steps: of the generator.
        batch: global batch of each turn, over all workers.
        turns: steps of the critic for each of the generator.
        clip: largest magnitude of the critic's weights.
        lr: learning rate of both players' RMSProp.
        width: units of each hidden layer of both nets.
        depth: hidden layers of both nets.
        noise: numbers that the generator starts from.
        ema: decay of the average of the generator's weights.
    """
    from datamodules.labs.density2d import Density2D
    from lightning_modules.gan.wgan import WGAN
    from lightning_modules.nets.adversarial import dense_discriminator, dense_generator
    from lightning_modules.optim import RMSProp

    points = Density2D(batch * turns, name=density)
    generator = dense_generator(noise, points.shape, width=width, depth=depth)
    discriminator = dense_discriminator(points.shape, width=width, depth=depth)
    model = WGAN(generator, discriminator, noise, critic_steps=turns, clip=clip, optim=RMSProp(lr))
    return Fit(model, points, steps, modes_found, ema=ema, log_every=50)
