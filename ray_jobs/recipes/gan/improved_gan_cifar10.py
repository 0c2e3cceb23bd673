"""Improved GAN on CIFAR-10 at the paper's scale, without labels; needs GPUs."""

from __future__ import annotations

from functools import partial

from ray_jobs.recipe.measures import likeness_of_images
from ray_jobs.recipe.plan import Fit, Headline

system = "Improved GAN"
data = "CIFAR-10"
headline = Headline("Salimans et al. 2016", arxiv="1606.03498", metric="IS", value=8.09, where="Table 3, with labels")
claim = None
space = {"lr": "loguniform(5e-5,1e-3)", "kernels": "choice(0,20,100)"}


def recipe(
    *,
    steps: int = 100000,
    batch: int = 128,
    lr: float = 3e-4,
    matching: bool = False,
    kernels: int = 100,
    history: float = 0.0,
    label: float = 0.9,
    blur: float = 0.0,
    width: int = 96,
    noise: int = 100,
    ema: float = 0.0,
    data_dir: str = "",
    num_workers: int = 4,
    inception: str = "",
) -> Fit:
    """Strided nets with minibatch discrimination, smoothed labels and virtual batch norm, on CIFAR-10 from the hub.

    Args:
        steps: of the generator.
        batch: global batch of each turn, over all workers.
        lr: learning rate of both players' Adam.
        matching: the generator matches the critic's mean features in place of deceiving it.
        kernels: of minibatch discrimination, 0 for none.
        history: weight of the distance of each player's weights to their mean over the past.
        label: of real examples; below 1 smooths it.
        blur: deviation of noise on all that the critic sees, falling linearly to 0.
        width: channels at half the resolution; twice as many at each coarser one.
        noise: numbers that the generator starts from.
        ema: decay of the average of the generator's weights.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
        num_workers: processes that decode images ahead.
        inception: file of Inception's weights, pt_inception-2015-12-05-6726825d.pth, for FID and IS; '' measures neither.
    """
    from datamodules.readers.images import Images
    from lightning_modules.gan.improved_gan import ImprovedGAN
    from lightning_modules.nets.strided import strided_discriminator, strided_generator
    from lightning_modules.optim import Adam

    images = Images(batch, name="uoft-cs/cifar10", data_dir=data_dir, num_workers=num_workers)
    generator = strided_generator(noise, images.shape, width=width, kind="virtual")
    discriminator = strided_discriminator(images.shape, width=width, kernels=kernels)
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
    measure = partial(likeness_of_images, inception=inception)
    return Fit(model, images, steps, measure, ema=ema, save_every=5000, log_every=100)
