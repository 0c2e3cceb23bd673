"""PixelCNN on CIFAR-10 at the paper's scale; needs GPUs."""

from __future__ import annotations

from ray_jobs.recipe import Fit, Headline, Location, fit
from ray_jobs.recipe.measures import exact_bits_of_images


@fit(
    system="PixelCNN",
    data="CIFAR-10",
    headline=Headline(
        "van den Oord et al. 2016", arxiv="1601.06759", metric="bits_per_dim", value=3.14, where="Table 5"
    ),
    space={"lr": "loguniform(1e-4,2e-3)"},
    steps=500_000,
    batch=16,
    lr=3e-4,
    warmup=1000,
    ema=0.999,
    num_workers=4,
    grad_clip=1.0,
    save_every=5000,
    log_every=100,
)
def pixelcnn_cifar10(
    *,
    batch: int,
    lr: float,
    warmup: int,
    num_workers: int,
    width: int = 128,
    depth: int = 15,
    head: int = 1024,
    data_dir: Location = "",
) -> Fit:
    """PixelCNN on CIFAR-10 at the paper's scale; needs GPUs.

    PixelCNN of the paper's size on CIFAR-10 from the Hugging Face hub, all 256 values of three colours.

    Args:
        width: h; residual layers have 2h features.
        depth: residual layers.
        head: features between the last two convolutions.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
    """
    from datamodules.readers.images import Images
    from lightning_modules.autoregressive.pixelcnn import PixelCNN

    images = Images(batch=batch, name="uoft-cs/cifar10", data_dir=data_dir, num_workers=num_workers)
    model = PixelCNN(images.shape, depth=depth, width=width, head=head, lr=lr, warmup=warmup)
    return Fit(model, images, exact_bits_of_images)
