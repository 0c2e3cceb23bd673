"""DCGAN on CIFAR-10 at the paper's scale; needs GPUs."""

from __future__ import annotations

from functools import partial

from ray_jobs.recipe import Fit, Headline, Location, fit
from ray_jobs.recipe.measures import likeness_of_images


@fit(
    system="DCGAN",
    data="CIFAR-10",
    headline=Headline(
        "Radford et al. 2016",
        arxiv="1511.06434",
        metric="IS",
        value=6.16,
        where="as cited in arXiv:1704.00028, Table 3",
    ),
    space={"lr": "loguniform(5e-5,1e-3)"},
    steps=40000,
    batch=128,
    lr=2e-4,
    ema=0.0,
    num_workers=4,
    save_every=5000,
    log_every=100,
)
def dcgan_cifar10(
    *,
    batch: int,
    lr: float,
    num_workers: int,
    width: int = 64,
    noise: int = 100,
    data_dir: Location = "",
    inception: Location = "",
) -> Fit:
    """DCGAN on CIFAR-10 at the paper's scale; needs GPUs.

    DCGAN on CIFAR-10 from the Hugging Face hub.

    Args:
        width: channels at half the resolution; twice as many at each coarser one.
        noise: numbers that the generator starts from.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
        inception: file of Inception's weights, pt_inception-2015-12-05-6726825d.pth, for FID and IS; '' measures neither.
    """
    from datamodules.readers.images import Images
    from lightning_modules.gan.dcgan import DCGAN

    images = Images(batch=batch, name="uoft-cs/cifar10", data_dir=data_dir, num_workers=num_workers)
    model = DCGAN(images.shape, noise, width=width, lr=lr)
    measure = partial(likeness_of_images, inception=inception)
    return Fit(model, images, measure)
