"""Improved GAN on CIFAR-10 at the paper's scale, without labels; needs GPUs."""

from __future__ import annotations

from functools import partial

from ray_jobs.recipe import Fit, Headline, Location, fit
from ray_jobs.recipe.measures import likeness_of_images


@fit(
    system="Improved GAN",
    data="CIFAR-10",
    headline=Headline(
        "Salimans et al. 2016", arxiv="1606.03498", metric="IS", value=8.09, where="Table 3, with labels"
    ),
    space={"lr": "loguniform(5e-5,1e-3)", "kernels": "choice(0,20,100)"},
    steps=100000,
    batch=128,
    lr=3e-4,
    ema=0.0,
    num_workers=4,
    save_every=5000,
    log_every=100,
)
def improved_gan_cifar10(
    *,
    steps: int,
    batch: int,
    lr: float,
    num_workers: int,
    matching: bool = False,
    kernels: int = 100,
    history: float = 0.0,
    label: float = 0.9,
    blur: float = 0.0,
    width: int = 96,
    noise: int = 100,
    data_dir: Location = "",
    inception: Location = "",
) -> Fit:
    """Improved GAN on CIFAR-10 at the paper's scale, without labels; needs GPUs.

    Strided nets with minibatch discrimination, smoothed labels and virtual batch norm, on CIFAR-10 from the hub.

    Args:
        matching: the generator matches the critic's mean features in place of deceiving it.
        kernels: of minibatch discrimination, 0 for none.
        history: weight of the distance of each player's weights to their mean over the past.
        label: of real examples; below 1 smooths it.
        blur: deviation of noise on all that the critic sees, falling linearly to 0.
        width: channels at half the resolution; twice as many at each coarser one.
        noise: numbers that the generator starts from.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
        inception: file of Inception's weights, pt_inception-2015-12-05-6726825d.pth, for FID and IS; '' measures neither.
    """
    from datamodules.readers.images import Images
    from lightning_modules.gan.improved_gan import ImprovedGAN
    from lightning_modules.nets.strided import strided_critic, strided_generator

    images = Images(batch=batch, name="uoft-cs/cifar10", data_dir=data_dir, num_workers=num_workers)
    generator = strided_generator(noise, images.shape, width=width, kind="virtual")
    critic = strided_critic(images.shape, width=width, kernels=kernels)
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
    measure = partial(likeness_of_images, inception=inception)
    return Fit(model, images, measure)
