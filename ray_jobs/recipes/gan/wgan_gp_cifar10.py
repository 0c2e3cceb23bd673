"""WGAN-GP on CIFAR-10 at the paper's scale; needs GPUs."""

from __future__ import annotations

from functools import partial

from ray_jobs.recipe import Fit, Headline, Location, fit
from ray_jobs.recipe.measures import likeness_of_images


@fit(
    system="WGAN-GP",
    data="CIFAR-10",
    headline=Headline("Gulrajani et al. 2017", arxiv="1704.00028", metric="IS", value=7.86, where="Table 3"),
    space={"lr": "loguniform(5e-5,1e-3)", "penalty": "loguniform(1,30)"},
    steps=100000,
    batch=64,
    lr=2e-4,
    ema=0.0,
    num_workers=4,
    save_every=5000,
    log_every=100,
)
def wgan_gp_cifar10(
    *,
    steps: int,
    batch: int,
    lr: float,
    num_workers: int,
    turns: int = 5,
    penalty: float = 10.0,
    width: int = 128,
    noise: int = 128,
    data_dir: Location = "",
    inception: Location = "",
) -> Fit:
    """WGAN-GP on CIFAR-10 at the paper's scale; needs GPUs.

    WGAN-GP with the paper's residual nets on CIFAR-10 from the Hugging Face hub.

    Args:
        turns: steps of the critic for each of the generator.
        penalty: weight of the gradient penalty.
        width: channels of both nets.
        noise: numbers that the generator starts from.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
        inception: file of Inception's weights, pt_inception-2015-12-05-6726825d.pth, for FID and IS; '' measures neither.
    """
    from datamodules.readers.images import Images
    from lightning_modules.gan.wgan_gp import WGANGP
    from lightning_modules.nets.gan_resnet import residual_critic, residual_generator

    images = Images(batch=batch * turns, name="uoft-cs/cifar10", data_dir=data_dir, num_workers=num_workers)
    generator, critic = residual_generator(noise, images.shape, width=width), residual_critic(images.shape, width=width)
    model = WGANGP(generator, critic, noise, turns=turns, penalty=penalty, lr=lr, until=steps)
    measure = partial(likeness_of_images, inception=inception)
    return Fit(model, images, measure)
