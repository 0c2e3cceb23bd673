"""Glow on CIFAR-10 at the paper's scale; needs GPUs."""

from __future__ import annotations

from ray_jobs.recipe import Fit, Headline, Location, fit
from ray_jobs.recipe.measures import bits_of_images


@fit(
    system="Glow",
    data="CIFAR-10",
    headline=Headline("Kingma & Dhariwal 2018", arxiv="1807.03039", metric="bits/dim", value=3.35, where="Table 2"),
    space={"lr": "loguniform(1e-4,3e-3)"},
    steps=1_400_000,
    batch=64,
    lr=1e-3,
    warmup=8000,
    ema=0.999,
    num_workers=4,
    grad_clip=100.0,
    save_every=5000,
    log_every=100,
)
def glow_cifar10(
    *,
    steps: int,
    batch: int,
    lr: float,
    warmup: int,
    num_workers: int,
    depth: int = 32,
    width: int = 512,
    scales: int = 3,
    smear: int = 0,
    data_dir: Location = "",
) -> Fit:
    """Glow on CIFAR-10 at the paper's scale; needs GPUs.

    Glow with the paper's 3 scales of 32 steps on CIFAR-10 from the Hugging Face hub.

    Args:
        depth: steps of the flow at each scale, the paper's K.
        width: channels inside the couplings' networks.
        scales: the paper's L.
        smear: channels of the networks that learn the noise of grey levels; 0: it is even, as in the paper.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
    """
    from datamodules.readers.images import Images
    from lightning_modules.flows.glow import Glow

    images = Images(batch=batch, name="uoft-cs/cifar10", data_dir=data_dir, num_workers=num_workers)
    model = Glow(images.shape, steps=depth, width=width, scales=scales, levels=256, smear=smear, lr=lr, warmup=warmup)
    return Fit(model, images, bits_of_images)
