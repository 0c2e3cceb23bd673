"""ResNet VAE with autoregressive posteriors on CIFAR-10 at the paper's scale; needs GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe.plan import Fit, Headline

if TYPE_CHECKING:
    from datamodules.base import Data
    from lightning_modules.vae.resnet_vae import ResNetVAE

system = "VAE with IAF posterior"
data = "CIFAR-10"
headline = Headline("Kingma et al. 2016", arxiv="1606.04934", metric="bits_per_dim", value=3.11)
claim = None
space = {"lr": "loguniform(3e-4,3e-3)", "free": "loguniform(0.05,1)"}


def recipe(
    *,
    steps: int = 600_000,
    batch: int = 128,
    lr: float = 2e-3,
    scales: int = 2,
    blocks: int = 10,
    width: int = 160,
    size: int = 32,
    free: float = 0.25,
    ema: float = 0.999,
    data_dir: str = "",
    num_workers: int = 4,
) -> Fit:
    """Twenty layers of latents at two scales, on images from the Hugging Face hub.

    Args:
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam, after a warm-up of 5,000 steps.
        scales: of latents: the first at half of the image's width, each other at half the one before.
        blocks: layers of latents at each scale.
        width: channels.
        size: feature maps of latents in each layer.
        free: nats that the divergence of each feature map costs at least.
        ema: decay of the weights' average.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
        num_workers: processes that decode images ahead.
    """
    from datamodules.readers.images import Images
    from lightning_modules.optim import Adam
    from lightning_modules.vae.resnet_vae import ResNetVAE

    images = Images(batch, name="uoft-cs/cifar10", data_dir=data_dir, num_workers=num_workers)
    model = ResNetVAE(
        images.shape, scales=scales, blocks=blocks, width=width, size=size, free_bits=free, optim=Adam(lr, warmup=5000)
    )
    return Fit(model, images, steps, evaluate, ema=ema, grad_clip=10.0, save_every=5000, log_every=100)


def evaluate(model: ResNetVAE, data: Data) -> dict[str, float]:
    """Code length of 1,024 held-out images by the bound of 100 draws, and by that of one."""
    import torch

    parts, rng = data.test(1024)["x"].to(model.device).split(128), torch.Generator().manual_seed(0)
    draws = {"bits_per_dim": 100, "elbo_bits_per_dim": 1}
    return {n: torch.cat([model.bits_per_dim(x, k=k, rng=rng) for x in parts]).mean().item() for n, k in draws.items()}
