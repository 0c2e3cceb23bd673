"""DCGAN on digits and on CIFAR-10."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe import Claim, Fit, Headline, Location, fit
from ray_jobs.recipe.measures import frechet_to_held_out, likeness

if TYPE_CHECKING:
    from datamodules.readers.digits import Digits
    from lightning_modules.gan.dcgan import DCGAN


@fit(
    system="DCGAN", data="digits, writers shared by both parts", headline=Headline("Radford et al. 2016", arxiv="1511.06434"),
    claim=Claim("frechet_held_out", at_most=3.8), space={"lr": "loguniform(1e-4,3e-3)", "width": "choice(16,32,64)"},
    steps=2500, batch=100, lr=5e-4, ema=0.995,
)  # fmt: skip
def dcgan_digits(*, width: int = 32, latents: int = 32) -> Fit:
    """DCGAN on handwritten digits: two minutes on one core, no download.

    Args:
        width: channels at half the resolution.
        latents: that an image is generated from.
    """
    from datamodules.readers.digits import Digits
    from lightning_modules.gan.dcgan import DCGAN

    return Fit(DCGAN(Digits.shape, latents, width=width), Digits(), likeness_of_digits)


def likeness_of_digits(model: DCGAN, data: Digits) -> dict[str, float]:
    """Distances of samples to the held-out digits: `frechet_to_held_out`, and MMD."""
    import torch

    from lightning_modules.metrics.samples import mmd

    real = data.test()["x"]
    drawn = model.sample(8 * len(real), rng=torch.Generator().manual_seed(0)).cpu()
    return {"frechet_held_out": frechet_to_held_out(drawn, data), "mmd": mmd(drawn, real, width=4.0)}


@fit(
    system="DCGAN", data="CIFAR-10",
    headline=Headline("Radford et al. 2016", arxiv="1511.06434", metric="IS", value=6.16,
                      where="as cited in arXiv:1704.00028, Table 3"),
    space={"lr": "loguniform(5e-5,1e-3)"}, steps=40000, batch=128, lr=2e-4, ema=0.0, num_workers=4, save_every=5000,
    log_every=100,
)  # fmt: skip
def dcgan_cifar10(*, width: int = 64, latents: int = 100, data_dir: Location = "") -> Fit:
    """DCGAN on CIFAR-10 at the paper's scale; needs GPUs.

    Args:
        width: channels at half the resolution; twice as many at each coarser one.
        latents: that an image is generated from.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
    """
    from datamodules.readers.images import Images
    from lightning_modules.gan.dcgan import DCGAN

    images = Images(name="uoft-cs/cifar10", data_dir=data_dir)
    return Fit(DCGAN(images.shape, latents, width=width), images, likeness)
