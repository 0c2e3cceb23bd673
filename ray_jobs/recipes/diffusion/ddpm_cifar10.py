"""DDPM on CIFAR-10 at the paper's scale; needs GPUs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ray_jobs.recipe import Fit, Headline, Location, fit

if TYPE_CHECKING:
    from datamodules.base import Data
    from lightning_modules.diffusion.denoising import Denoising


@fit(
    system="DDPM",
    data="CIFAR-10",
    headline=Headline("Ho et al. 2020", arxiv="2006.11239", metric="FID", value=3.17, where="Table 1"),
    space={"lr": "loguniform(5e-5,1e-3)", "dropout": "uniform(0,0.3)"},
    steps=800_000,
    batch=128,
    lr=2e-4,
    warmup=5000,
    ema=0.9999,
    num_workers=4,
    grad_clip=1.0,
    save_every=5000,
    log_every=100,
)
def ddpm_cifar10(
    *,
    batch: int,
    lr: float,
    warmup: int,
    num_workers: int,
    width: int = 128,
    levels: int = 1000,
    dropout: float = 0.1,
    data_dir: Location = "",
    bf16: bool = False,
) -> Fit:
    """DDPM on CIFAR-10 at the paper's scale; needs GPUs.

    DDPM with the paper's U-Net of 35.7 M weights on CIFAR-10 from the Hugging Face hub.

    Args:
        width: channels of the U-Net at full resolution; twice as many below.
        levels: noise levels in training and sampling.
        dropout: in the residual blocks.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
        bf16: whether the U-Net computes in bfloat16.
    """
    from datamodules.readers.images import Images
    from lightning_modules.diffusion import schedules
    from lightning_modules.diffusion.models.ddpm import ddpm
    from lightning_modules.nets.unet import UNet
    from lightning_modules.objectives import discretised_gaussian_log_prob
    from lightning_modules.optim import Adam

    images = Images(batch=batch, name="uoft-cs/cifar10", data_dir=data_dir, num_workers=num_workers)
    net = UNet(3, width=width, multiples=(1, 2, 2, 2), attention=(1,), head=2 * width, dropout=dropout, bf16=bf16)
    model = ddpm(
        net,
        images.shape,
        levels=schedules.linear(levels, 0.1 / levels, 20 / levels),
        optim=Adam(lr, warmup),
        variance=schedules.forward,
        decoder=partial(discretised_gaussian_log_prob, levels=256),
        clip=True,
    )
    return Fit(model, images, evaluate)


def evaluate(model: Denoising, data: Data) -> dict[str, float]:
    """The bound on 1,024 held-out images, 100 of its terms each."""
    import torch

    x = data.test(1024)["x"].to(model.device)
    rng = torch.Generator().manual_seed(0)
    bits = torch.cat([model.bits_per_dim(part, terms=100, rng=rng) for part in x.split(128)])
    return {"bits_per_dim": bits.mean().item()}
