"""WGAN on LSUN bedrooms of 64x64 pixels at the paper's scale; needs GPUs."""

from __future__ import annotations

from functools import partial

from ray_jobs.recipe.measures import likeness_of_images
from ray_jobs.recipe.plan import Fit, Headline

system = "WGAN"
data = "LSUN bedrooms"
headline = Headline("Arjovsky et al. 2017", arxiv="1701.07875")
claim = None
space = {"lr": "loguniform(1e-5,5e-4)", "clip": "loguniform(0.003,0.1)"}


def recipe(
    *,
    steps: int = 200000,
    batch: int = 64,
    size: int = 64,
    turns: int = 5,
    clip: float = 0.01,
    lr: float = 5e-5,
    width: int = 64,
    noise: int = 100,
    ema: float = 0.0,
    data_dir: str = "",
    num_workers: int = 4,
    inception: str = "",
) -> Fit:
    """WGAN with DCGAN's nets on bedrooms.

    Args:
        steps: of the generator.
        batch: global batch of each turn, over all workers.
        size: height and width of the images.
        turns: steps of the critic for each of the generator.
        clip: largest magnitude of the critic's weights.
        lr: learning rate of both players' RMSProp.
        width: channels at half the resolution; twice as many at each coarser one.
        noise: numbers that the generator starts from.
        ema: decay of the average of the generator's weights.
        data_dir: local folder of parquet files with the column image, resized to `size`; '' takes the hub, whose images are larger.
        num_workers: processes that decode images ahead.
        inception: file of Inception's weights, pt_inception-2015-12-05-6726825d.pth, for FID and IS; '' measures neither.
    """
    from datamodules.readers.images import Images
    from lightning_modules.gan.wgan import WGAN
    from lightning_modules.nets.strided import strided_discriminator, strided_generator
    from lightning_modules.optim import RMSProp

    images = Images(
        batch * turns,
        name="pcuenq/lsun-bedrooms",
        data_dir=data_dir,
        image="image",
        label="",
        size=size,
        num_workers=num_workers,
    )
    generator, discriminator = (
        strided_generator(noise, images.shape, width=width),
        strided_discriminator(images.shape, width=width),
    )
    model = WGAN(generator, discriminator, noise, critic_steps=turns, clip=clip, optim=RMSProp(lr))
    measure = partial(likeness_of_images, inception=inception)
    return Fit(model, images, steps, measure, ema=ema, save_every=5000, log_every=100)
