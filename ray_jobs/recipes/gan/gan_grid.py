"""GAN on a grid of 25 Gaussians in the plane: how many it finds."""

from __future__ import annotations

from ray_jobs.recipe import Claim, Fit, Headline, fit
from ray_jobs.recipe.measures import modes_found


@fit(
    system="GAN",
    data="density2d",
    headline=Headline("Goodfellow et al. 2014", arxiv="1406.2661"),
    claim=Claim("modes_hit", at_least=15),
    space={"lr": "loguniform(1e-4,5e-3)", "width": "choice(64,128,256)"},
    steps=4000,
    batch=256,
    lr=1e-3,
    ema=0.999,
    log_every=50,
)
def gan_grid(
    *,
    batch: int,
    lr: float,
    density: str = "sharp_grid",
    objective: str = "non_saturating",
    width: int = 128,
    depth: int = 3,
    noise: int = 2,
) -> Fit:
    """GAN on a grid of 25 Gaussians in the plane: how many it finds.

    A GAN with multilayer perceptrons on points of a known mixture.

    Args:
        density: 'sharp_grid', with nearly nothing between its modes, or 'grid', whose broad modes even noise hits.
        objective: of the generator, 'non_saturating' or 'minimax'.
        width: units of each hidden layer of both nets.
        depth: hidden layers of both nets.
        noise: numbers that the generator starts from.
    """
    from datamodules.labs.density2d import Density2D
    from lightning_modules.gan.gan import GAN
    from lightning_modules.nets.adversarial import dense_critic, dense_generator

    points = Density2D(batch=batch, name=density)
    generator = dense_generator(noise, points.shape, width=width, depth=depth)
    critic = dense_critic(points.shape, width=width, depth=depth)
    model = GAN(generator, critic, noise, objective=objective, lr=lr)  # type: ignore[arg-type]
    return Fit(model, points, modes_found)
