"""WGAN-GP on a grid of Gaussians and on CIFAR-10."""

from __future__ import annotations

from ray_jobs.recipe import Claim, Fit, Headline, Location, fit
from ray_jobs.recipe.measures import likeness, modes_found


@fit(
    system="WGAN-GP", data="density2d", headline=Headline("Gulrajani et al. 2017", arxiv="1704.00028"),
    claim=Claim("modes_hit", at_least=25), space={"lr": "loguniform(1e-4,3e-3)", "penalty": "loguniform(0.03,10)"},
    steps=4000, batch=256, lr=1e-3, ema=0.999, log_every=50,
)  # fmt: skip
def wgan_gp_grid(
    *, steps: int, density: str = "sharp_grid", critic_steps: int = 5, penalty: float = 0.1, width: int = 128,
    depth: int = 3, latents: int = 2
) -> Fit:  # fmt: skip
    """WGAN-GP on a grid of 25 Gaussians in the plane: how many it finds.

    WGAN-GP with multilayer perceptrons on points of a known mixture. The learning rate falls linearly to 0.

    Args:
        density: 'sharp_grid', with nearly nothing between its modes, or 'grid', whose broad modes even uniform noise hits.
        critic_steps: steps of the critic for each of the generator.
        penalty: weight of the gradient penalty.
        width: units of each hidden layer of both networks.
        depth: hidden layers of both networks.
        latents: that a point is generated from.
    """
    from datamodules.labs.density2d import Density2D
    from lightning_modules.gan.wgan_gp import WGANGP
    from lightning_modules.nets.adversarial import dense_discriminator, dense_generator
    from lightning_modules.optim import Adam

    points = Density2D(name=density)
    generator = dense_generator(latents, points.shape, width=width, depth=depth)
    critic = dense_discriminator(points.shape, width=width, depth=depth)
    optim = Adam(betas=(0.0, 0.9), decay_steps=steps)
    model = WGANGP(generator, critic, latents, optim=optim, critic_steps=critic_steps, penalty=penalty)
    return Fit(model, points, modes_found)


@fit(
    system="WGAN-GP", data="CIFAR-10",
    headline=Headline("Gulrajani et al. 2017", arxiv="1704.00028", metric="IS", value=7.86, where="Table 3"),
    space={"lr": "loguniform(5e-5,1e-3)", "penalty": "loguniform(1,30)"}, steps=100000, batch=64, lr=2e-4, ema=0.0,
    num_workers=4, save_every=5000, log_every=100,
)  # fmt: skip
def wgan_gp_cifar10(
    *, steps: int, critic_steps: int = 5, penalty: float = 10.0, width: int = 128, latents: int = 128,
    data_dir: Location = ""
) -> Fit:  # fmt: skip
    """WGAN-GP on CIFAR-10 at the paper's scale; needs GPUs.

    WGAN-GP with the paper's residual networks on CIFAR-10 from the Hugging Face hub. The learning rate falls linearly to 0.

    Args:
        critic_steps: steps of the critic for each of the generator.
        penalty: weight of the gradient penalty.
        width: channels of both networks.
        latents: that an image is generated from.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
    """
    from datamodules.readers.images import Images
    from lightning_modules.gan.wgan_gp import WGANGP
    from lightning_modules.nets.gan_resnet import residual_discriminator, residual_generator
    from lightning_modules.optim import Adam

    images = Images(name="uoft-cs/cifar10", data_dir=data_dir)
    generator = residual_generator(latents, images.shape, width=width)
    critic = residual_discriminator(images.shape, width=width)
    optim = Adam(betas=(0.0, 0.9), decay_steps=steps)
    model = WGANGP(generator, critic, latents, optim=optim, critic_steps=critic_steps, penalty=penalty)
    return Fit(model, images, likeness)
