"""DCGAN on CIFAR-10 at the paper's scale; needs GPUs."""

from __future__ import annotations

from functools import partial

from ray_jobs.recipe.measures import likeness_of_images
from ray_jobs.recipe.plan import Fit, Headline

system = "DCGAN"
data = "CIFAR-10"
headline = Headline(
    "Radford et al. 2016", arxiv="1511.06434", metric="IS", value=6.16, where="as cited in arXiv:1704.00028, Table 3"
)
claim = None
space = {"lr": "loguniform(5e-5,1e-3)"}


def recipe(
    *,
    steps: int = 40000,
    batch: int = 128,
    lr: float = 2e-4,
    width: int = 64,
    noise: int = 100,
    ema: float = 0.0,
    data_dir: str = "",
    num_workers: int = 4,
    inception: str = "",
) -> Fit:
    """DCGAN on CIFAR-10 from the Hugging Face hub.

    Args:
        steps: of the generator.
        batch: global batch of each turn, over all workers.
        lr: learning rate of both players' Adam.
        width: channels at half the resolution; twice as many at each coarser one.
        noise: numbers that the generator starts from.
        ema: decay of the average of the generator's weights.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
        num_workers: processes that decode images ahead.
        inception: file of Inception's weights, pt_inception-2015-12-05-6726825d.pth, for FID and IS; '' measures neither.
    """
    from datamodules.readers.images import Images
    from lightning_modules.gan.dcgan import DCGAN
    from lightning_modules.optim import Adam

    images = Images(batch, name="uoft-cs/cifar10", data_dir=data_dir, num_workers=num_workers)
    model = DCGAN(images.shape, noise, width=width, optim=Adam(lr, betas=(0.5, 0.999)))
    measure = partial(likeness_of_images, inception=inception)
    return Fit(model, images, steps, measure, ema=ema, save_every=5000, log_every=100)
