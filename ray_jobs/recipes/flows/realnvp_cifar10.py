"""RealNVP on CIFAR-10 at the paper's scale; needs GPUs."""

from __future__ import annotations

from ray_jobs.recipe import Fit, Headline, Location, fit
from ray_jobs.recipe.measures import bits_of_images


@fit(
    system="RealNVP",
    data="CIFAR-10",
    headline=Headline("Dinh et al. 2017", arxiv="1605.08803", metric="bits/dim", value=3.49, where="Table 1"),
    space={"lr": "loguniform(1e-4,3e-3)"},
    steps=500_000,
    batch=64,
    lr=1e-3,
    warmup=1000,
    ema=0.999,
    num_workers=4,
    grad_clip=100.0,
    save_every=5000,
    log_every=100,
)
def realnvp_cifar10(
    *,
    batch: int,
    lr: float,
    warmup: int,
    num_workers: int,
    depth: int = 8,
    width: int = 64,
    scales: int = 2,
    smear: int = 0,
    data_dir: Location = "",
) -> Fit:
    """RealNVP on CIFAR-10 at the paper's scale; needs GPUs.

    RealNVP with the paper's eight residual blocks of 64 channels on CIFAR-10 from the Hugging Face hub.

    Args:
        depth: residual blocks in each coupling's network.
        width: channels at full resolution.
        scales: of the image.
        smear: channels of the networks that learn the noise of grey levels; 0: it is even, as in the paper.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
    """
    from datamodules.readers.images import Images
    from lightning_modules.flows.realnvp import RealNVP

    images = Images(batch=batch, name="uoft-cs/cifar10", data_dir=data_dir, num_workers=num_workers)
    model = RealNVP(
        images.shape, depth=depth, width=width, scales=scales, levels=256, smear=smear, lr=lr, warmup=warmup
    )
    return Fit(model, images, bits_of_images)
