"""WGAN-GP on CIFAR-10 at the paper's scale; needs GPUs."""

from __future__ import annotations

from functools import partial

from ray_jobs.recipe.measures import likeness_of_images
from ray_jobs.recipe.plan import Fit, Headline

system = "WGAN-GP"
data = "CIFAR-10"
headline = Headline("Gulrajani et al. 2017", arxiv="1704.00028", metric="IS", value=7.86, where="Table 3")
claim = None
space = {"lr": "loguniform(5e-5,1e-3)", "penalty": "loguniform(1,30)"}


def recipe(
    *,
    steps: int = 100000,
    batch: int = 64,
    turns: int = 5,
    penalty: float = 10.0,
    lr: float = 2e-4,
    width: int = 128,
    noise: int = 128,
    ema: float = 0.0,
    data_dir: str = "",
    num_workers: int = 4,
    inception: str = "",
) -> Fit:
    """WGAN-GP with the paper's residual nets on CIFAR-10 from the Hugging Face hub.

    Args:
        steps: of the generator.
        batch: global batch of each turn, over all workers.
        turns: steps of the critic for each of the generator.
        penalty: weight of the gradient penalty.
        lr: learning rate of both players' Adam, falling linearly to 0.
        width: channels of both nets.
        noise: numbers that the generator starts from.
        ema: decay of the average of the generator's weights.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
        num_workers: processes that decode images ahead.
        inception: file of Inception's weights, pt_inception-2015-12-05-6726825d.pth, for FID and IS; '' measures neither.
    """
    from datamodules.readers.images import Images
    from lightning_modules.gan.wgan_gp import WGANGP
    from lightning_modules.nets.gan_resnet import residual_discriminator, residual_generator
    from lightning_modules.optim import Adam

    images = Images(batch * turns, name="uoft-cs/cifar10", data_dir=data_dir, num_workers=num_workers)
    generator, discriminator = (
        residual_generator(noise, images.shape, width=width),
        residual_discriminator(images.shape, width=width),
    )
    model = WGANGP(
        generator,
        discriminator,
        noise,
        critic_steps=turns,
        penalty=penalty,
        optim=Adam(lr, betas=(0.0, 0.9), decay_steps=steps),
    )
    measure = partial(likeness_of_images, inception=inception)
    return Fit(model, images, steps, measure, ema=ema, save_every=5000, log_every=100)
