"""Improved GAN on a grid of 25 Gaussians in the plane: how many it finds."""

from __future__ import annotations

from ray_jobs.recipe.measures import modes_found
from ray_jobs.recipe.plan import Claim, Fit, Headline

system = "Improved GAN"
data = "density2d"
headline = Headline("Salimans et al. 2016", arxiv="1606.03498")
claim = Claim("modes_hit", at_least=15)
space = {"lr": "loguniform(1e-4,5e-3)", "blur": "uniform(0,0.3)"}


def recipe(
    *,
    density: str = "sharp_grid",
    steps: int = 2500,
    batch: int = 128,
    lr: float = 1e-3,
    matching: bool = False,
    kernels: int = 4,
    history: float = 0.0,
    label: float = 0.9,
    blur: float = 0.1,
    virtual: bool = False,
    width: int = 128,
    depth: int = 3,
    noise: int = 2,
    ema: float = 0.999,
) -> Fit:
    """A GAN with the techniques of Improved GAN and instance noise, on points of a known mixture.

    Args:
        density: 'sharp_grid', with nearly nothing between its modes, or 'grid', whose broad modes even noise hits.
        steps: of the generator.
        batch: global batch of each turn, over all workers.
        lr: learning rate of both players' Adam.
        matching: the generator matches the critic's mean features in place of deceiving it.
        kernels: of minibatch discrimination, 0 for none.
        history: weight of the distance of each player's weights to their mean over the past.
        label: of real examples; below 1 smooths it.
        blur: deviation of noise on all that the critic sees, falling linearly to 0.
        virtual: whether the generator has virtual batch norm.
        width: units of each hidden layer of both nets.
        depth: hidden layers of both nets.
        noise: numbers that the generator starts from.
        ema: decay of the average of the generator's weights.
    """
    from datamodules.labs.density2d import Density2D
    from lightning_modules.gan.improved_gan import ImprovedGAN
    from lightning_modules.nets.adversarial import dense_discriminator, dense_generator
    from lightning_modules.optim import Adam

    points = Density2D(batch, name=density)
    kind = "virtual" if virtual else "none"
    generator = dense_generator(noise, points.shape, width=width, depth=depth, kind=kind)  # type: ignore[arg-type]
    discriminator = dense_discriminator(points.shape, width=width, depth=depth, kernels=kernels)
    model = ImprovedGAN(
        generator,
        discriminator,
        noise,
        optim=Adam(lr, betas=(0.5, 0.999)),
        feature_matching=matching,
        history=history,
        real_label=label,
        noise_std=blur,
        noise_steps=steps,
    )
    return Fit(model, points, steps, modes_found, ema=ema, log_every=50)
