"""GAN on a grid of 25 Gaussians in the plane: how many it finds."""

from __future__ import annotations

from ray_jobs.recipe.measures import modes_found
from ray_jobs.recipe.plan import Claim, Fit, Headline

system = "GAN"
data = "density2d"
headline = Headline("Goodfellow et al. 2014", arxiv="1406.2661")
claim = Claim("modes_hit", at_least=15)
space = {"lr": "loguniform(1e-4,5e-3)", "width": "choice(64,128,256)"}


def recipe(
    *,
    density: str = "sharp_grid",
    steps: int = 4000,
    batch: int = 256,
    objective: str = "non_saturating",
    lr: float = 1e-3,
    width: int = 128,
    depth: int = 3,
    noise: int = 2,
    ema: float = 0.999,
) -> Fit:
    """A GAN with multilayer perceptrons on points of a known mixture.

    Args:
        density: 'sharp_grid', with nearly nothing between its modes, or 'grid', whose broad modes even noise hits.
        steps: of the generator.
        batch: global batch of each turn, over all workers.
        objective: of the generator, 'non_saturating' or 'minimax'.
        lr: learning rate of both players' Adam.
        width: units of each hidden layer of both nets.
        depth: hidden layers of both nets.
        noise: numbers that the generator starts from.
        ema: decay of the average of the generator's weights.
    """
    from datamodules.labs.density2d import Density2D
    from lightning_modules.gan.gan import GAN
    from lightning_modules.nets.adversarial import dense_discriminator, dense_generator
    from lightning_modules.optim import Adam

    points = Density2D(batch, name=density)
    generator = dense_generator(noise, points.shape, width=width, depth=depth)
    discriminator = dense_discriminator(points.shape, width=width, depth=depth)
    model = GAN(generator, discriminator, noise, objective=objective, optim=Adam(lr, betas=(0.5, 0.999)))  # type: ignore[arg-type]
    return Fit(model, points, steps, modes_found, ema=ema, log_every=50)
