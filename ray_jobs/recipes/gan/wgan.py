"""WGAN on a grid of Gaussians and on LSUN bedrooms."""

from __future__ import annotations

from ray_jobs.recipe import Claim, Fit, Headline, Location, fit
from ray_jobs.recipe.measures import likeness, modes_found


@fit(
    system="WGAN", data="density2d", headline=Headline("Arjovsky et al. 2017", arxiv="1701.07875"),
    claim=Claim("modes_hit", at_least=10), space={"lr": "loguniform(5e-5,2e-3)", "clip": "loguniform(0.01,0.3)"},
    steps=4000, batch=256, lr=5e-4, ema=0.999, log_every=50,
)  # fmt: skip
def wgan_grid(
    *, density: str = "sharp_grid", critic_steps: int = 5, clip: float = 0.1, width: int = 128, depth: int = 3,
    latents: int = 2
) -> Fit:  # fmt: skip
    """WGAN on a grid of 25 Gaussians in the plane: how many it finds.

    Args:
        density: 'sharp_grid', with nearly nothing between its modes, or 'grid', whose broad modes even uniform noise hits.
        critic_steps: steps of the critic for each of the generator.
        clip: largest magnitude of the critic's weights.
        width: units of each hidden layer of both networks.
        depth: hidden layers of both networks.
        latents: that a point is generated from.
    """
    from datamodules.labs.density2d import Density2D
    from lightning_modules.gan.wgan import WGAN
    from lightning_modules.nets.adversarial import dense_discriminator, dense_generator

    points = Density2D(name=density)
    generator = dense_generator(latents, points.shape, width=width, depth=depth)
    critic = dense_discriminator(points.shape, width=width, depth=depth)
    return Fit(WGAN(generator, critic, latents, critic_steps=critic_steps, clip=clip), points, modes_found)


@fit(
    system="WGAN", data="LSUN bedrooms", headline=Headline("Arjovsky et al. 2017", arxiv="1701.07875"),
    space={"lr": "loguniform(1e-5,5e-4)", "clip": "loguniform(0.003,0.1)"}, steps=200000, batch=64, lr=5e-5, ema=0.0,
    num_workers=4, save_every=5000, log_every=100,
)  # fmt: skip
def wgan_lsun(
    *, size: int = 64, critic_steps: int = 5, clip: float = 0.01, width: int = 64, latents: int = 100,
    data_dir: Location = ""
) -> Fit:  # fmt: skip
    """WGAN on LSUN bedrooms of 64x64 pixels at the paper's scale; needs GPUs.

    Args:
        size: height and width of the images.
        critic_steps: steps of the critic for each of the generator.
        clip: largest magnitude of the critic's weights.
        width: channels at half the resolution; twice as many at each coarser one.
        latents: that an image is generated from.
        data_dir: local folder of parquet files with the column image, resized to `size`; '' takes the hub, whose images are larger.
    """
    from datamodules.readers.images import Images
    from lightning_modules.gan.wgan import WGAN
    from lightning_modules.nets.strided import strided_discriminator, strided_generator

    images = Images(name="pcuenq/lsun-bedrooms", data_dir=data_dir, image="image", label="", size=size)
    generator = strided_generator(latents, images.shape, width=width)
    critic = strided_discriminator(images.shape, width=width)
    model = WGAN(generator, critic, latents, critic_steps=critic_steps, clip=clip)
    return Fit(model, images, likeness)
