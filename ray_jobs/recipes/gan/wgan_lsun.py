"""WGAN on LSUN bedrooms of 64x64 pixels at the paper's scale; needs GPUs."""

from __future__ import annotations

from functools import partial

from ray_jobs.recipe import Fit, Headline, Location, fit
from ray_jobs.recipe.measures import likeness_of_images


@fit(
    system="WGAN",
    data="LSUN bedrooms",
    headline=Headline("Arjovsky et al. 2017", arxiv="1701.07875"),
    space={"lr": "loguniform(1e-5,5e-4)", "clip": "loguniform(0.003,0.1)"},
    steps=200000,
    batch=64,
    lr=5e-5,
    ema=0.0,
    num_workers=4,
    save_every=5000,
    log_every=100,
)
def wgan_lsun(
    *,
    batch: int,
    lr: float,
    num_workers: int,
    size: int = 64,
    turns: int = 5,
    clip: float = 0.01,
    width: int = 64,
    noise: int = 100,
    data_dir: Location = "",
    inception: Location = "",
) -> Fit:
    """WGAN on LSUN bedrooms of 64x64 pixels at the paper's scale; needs GPUs.

    WGAN with DCGAN's nets on bedrooms.

    Args:
        size: height and width of the images.
        turns: steps of the critic for each of the generator.
        clip: largest magnitude of the critic's weights.
        width: channels at half the resolution; twice as many at each coarser one.
        noise: numbers that the generator starts from.
        data_dir: local folder of parquet files with the column image, resized to `size`; '' takes the hub, whose images are larger.
        inception: file of Inception's weights, pt_inception-2015-12-05-6726825d.pth, for FID and IS; '' measures neither.
    """
    from datamodules.readers.images import Images
    from lightning_modules.gan.wgan import WGAN
    from lightning_modules.nets.strided import strided_critic, strided_generator

    images = Images(
        batch=batch * turns,
        name="pcuenq/lsun-bedrooms",
        data_dir=data_dir,
        image="image",
        label="",
        size=size,
        num_workers=num_workers,
    )
    generator, critic = strided_generator(noise, images.shape, width=width), strided_critic(images.shape, width=width)
    model = WGAN(generator, critic, noise, turns=turns, clip=clip, lr=lr)
    measure = partial(likeness_of_images, inception=inception)
    return Fit(model, images, measure)
