"""NICE on CIFAR-10 at the paper's scale; needs GPUs."""

from __future__ import annotations

from ray_jobs.recipe import Fit, Headline, Location, fit
from ray_jobs.recipe.measures import bits_of_images


@fit(
    system="NICE",
    data="CIFAR-10",
    headline=Headline(
        "Dinh et al. 2015",
        arxiv="1410.8516",
        metric="bits/dim",
        value=4.48,
        where="as van den Oord et al. 2016 report it",
    ),
    space={"lr": "loguniform(1e-4,3e-3)"},
    steps=300_000,
    batch=200,
    lr=1e-3,
    warmup=1000,
    ema=0.999,
    num_workers=4,
    grad_clip=100.0,
    save_every=5000,
    log_every=100,
)
def nice_cifar10(
    *,
    batch: int,
    lr: float,
    warmup: int,
    num_workers: int,
    couplings: int = 4,
    width: int = 2000,
    depth: int = 4,
    data_dir: Location = "",
) -> Fit:
    """NICE on CIFAR-10 at the paper's scale; needs GPUs.

    NICE with the paper's four couplings of four layers on CIFAR-10 from the Hugging Face hub; the images are not whitened.

    Args:
        couplings: additive couplings.
        width: units of each hidden layer.
        depth: hidden layers of each network.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
    """
    from datamodules.readers.images import Images
    from lightning_modules.flows.nice import NICE

    images = Images(batch=batch, name="uoft-cs/cifar10", data_dir=data_dir, num_workers=num_workers)
    model = NICE(images.shape, couplings=couplings, width=width, depth=depth, levels=256, lr=lr, warmup=warmup)
    return Fit(model, images, bits_of_images)
