"""Improved GAN on a grid of 25 Gaussians in the plane: how many it finds."""

from __future__ import annotations

from ray_jobs.recipe import Claim, Fit, Headline, fit
from ray_jobs.recipe.measures import modes_found


@fit(
    system="Improved GAN",
    data="density2d",
    headline=Headline("Salimans et al. 2016", arxiv="1606.03498"),
    claim=Claim("modes_hit", at_least=15),
    space={"lr": "loguniform(1e-4,5e-3)", "blur": "uniform(0,0.3)"},
    steps=2500,
    batch=128,
    lr=1e-3,
    ema=0.999,
    log_every=50,
)
def improved_gan_grid(
    *,
    steps: int,
    batch: int,
    lr: float,
    density: str = "sharp_grid",
    matching: bool = False,
    kernels: int = 4,
    history: float = 0.0,
    label: float = 0.9,
    blur: float = 0.1,
    virtual: bool = False,
    width: int = 128,
    depth: int = 3,
    noise: int = 2,
) -> Fit:
    """Improved GAN on a grid of 25 Gaussians in the plane: how many it finds.

    A GAN with the techniques of Improved GAN and instance noise, on points of a known mixture.

    Args:
        density: 'sharp_grid', with nearly nothing between its modes, or 'grid', whose broad modes even noise hits.
        matching: the generator matches the critic's mean features in place of deceiving it.
        kernels: of minibatch discrimination, 0 for none.
        history: weight of the distance of each player's weights to their mean over the past.
        label: of real examples; below 1 smooths it.
        blur: deviation of noise on all that the critic sees, falling linearly to 0.
        virtual: whether the generator has virtual batch norm.
        width: units of each hidden layer of both nets.
        depth: hidden layers of both nets.
        noise: numbers that the generator starts from.
    """
    from datamodules.labs.density2d import Density2D
    from lightning_modules.gan.improved_gan import ImprovedGAN
    from lightning_modules.nets.adversarial import dense_critic, dense_generator

    points = Density2D(batch=batch, name=density)
    kind = "virtual" if virtual else "none"
    generator = dense_generator(noise, points.shape, width=width, depth=depth, kind=kind)  # type: ignore[arg-type]
    critic = dense_critic(points.shape, width=width, depth=depth, kernels=kernels)
    model = ImprovedGAN(
        generator,
        critic,
        noise,
        lr=lr,
        matching=matching,
        history=history,
        label=label,
        blur=blur,
        blur_until=steps,
    )
    return Fit(model, points, modes_found)
