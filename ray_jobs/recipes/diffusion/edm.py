"""Recipes of EDM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe import Claim, Fit, Headline, Location, fit
from ray_jobs.recipe.ranges import Share
from ray_jobs.recipes.diffusion.shared import Backbone, against_mixture, against_optimum, image_net

if TYPE_CHECKING:
    from datamodules.base import Data
    from lightning_modules.diffusion.denoising import Denoising

PAPER = Headline("Karras et al. 2022", arxiv="2206.00364")


@fit(
    system="EDM", data="density2d", headline=PAPER, claim=Claim("noise_excess", at_most=0.03),
    space={"lr": "loguniform(3e-4,1e-2)", "width": "choice(64,128,256)"}, steps=3000, batch=1024, lr=3e-3, warmup=100,
    ema=0.998,
)  # fmt: skip
def edm_mixture2d(
    *, density: str = "ring", width: int = 64, depth: int = 3, p_mean: float = -1.2, p_std: float = 1.2
) -> Fit:
    """EDM on a mixture of Gaussians in the plane, sampled in 18 steps: the learned score against the exact one.

    Args:
        density: 'ring', 'grid' or 'pinwheel'.
        width: of the hidden layers.
        depth: residual blocks.
        p_mean: mean of the logarithm of the noise levels in training.
        p_std: their standard deviation.
    """
    from datamodules.labs.density2d import Density2D
    from lightning_modules.diffusion.models.edm import edm
    from lightning_modules.nets.mlp import ResidualMLP

    data = Density2D(name=density, mixture=True)
    net = ResidualMLP(data.shape, width=width, depth=depth)
    model = edm(net, data.shape, data_std=0.7, mean=p_mean, std=p_std, sigma_min=0.01, sigma_max=20.0)
    return Fit(model, data, against_mixture)  # type: ignore[arg-type]


@fit(
    system="EDM", data="gauss_image", headline=PAPER, claim=Claim("noise_excess", at_most=0.03),
    space={"lr": "loguniform(3e-4,1e-2)", "width": "choice(64,128,256)"}, steps=3000, batch=512, lr=2e-3, warmup=100,
    ema=0.998,
)  # fmt: skip
def edm_gauss_image(*, width: int = 128, depth: int = 2, size: int = 8) -> Fit:
    """EDM on a known Gaussian, sampled in 18 steps: how far the learned noise, bound and samples are from the exact optimum.

    Args:
        width: of the hidden layers.
        depth: residual blocks.
        size: height and width of the images.
    """
    from datamodules.labs.gauss_image import GaussImage
    from lightning_modules.diffusion.models.edm import edm
    from lightning_modules.nets.mlp import ResidualMLP

    data = GaussImage(size=size)
    net = ResidualMLP(data.shape, width=width, depth=depth)
    return Fit(edm(net, data.shape, sigma_min=0.02, sigma_max=20.0), data, against_optimum)  # type: ignore[arg-type]


@fit(
    system="EDM", data="Fashion-MNIST", headline=PAPER,
    space={"lr": "loguniform(3e-4,5e-3)", "width": "choice(24,32,48)"}, steps=4000, batch=64, lr=2e-3, warmup=200,
    ema=0.998, grad_clip=1.0,
)  # fmt: skip
def edm_fashion(
    *, net: Backbone = "unet", width: int = 32, dropout: float = 0.0, data_dir: Location = "", bf16: bool = False
) -> Fit:
    """EDM on all of Fashion-MNIST, on squares of 2 x 2 pixels: about 20 minutes on one core.

    Args:
        net: which network, a U-Net or a transformer over patches (DiT).
        width: channels of the U-Net at half resolution, twice as many at a quarter; a third of the features of a DiT.
        dropout: in the blocks.
        data_dir: folder of the four IDX files, or of parquet files with the columns image and label; '' takes the hub.
        bf16: whether the network computes in bfloat16.
    """
    from datamodules.readers.images import Images
    from lightning_modules.diffusion.models.edm import edm

    images = Images(name="zalando-datasets/fashion_mnist", data_dir=data_dir, in_memory=True)
    made = image_net(
        net, images, width, multiples=(1, 2), blocks=1, head=width, patch=2, depth=4, dropout=dropout, bf16=bf16
    )
    return Fit(edm(made, images.shape, data_std=0.7), images, distance)


def distance(model: Denoising, data: Data) -> dict[str, float]:
    """The distance of samples to as many held-out images, 2,048, see `frechet_to_held_out`."""
    from ray_jobs.recipe.measures import frechet_to_held_out, measuring

    n = len(data.test(2048)["x"])
    return {"frechet_held_out": frechet_to_held_out(model.sample(n, rng=measuring()), data, n)}


@fit(
    system="EDM", data="CIFAR-10",
    headline=Headline("Karras et al. 2022", arxiv="2206.00364", metric="FID", value=1.97, where="Table 2"),
    space={"lr": "loguniform(3e-4,3e-3)", "dropout": "uniform(0,0.3)"}, steps=400_000, batch=512, lr=1e-3, warmup=20_000,
    ema=0.99929, ema_ramp=0.05, num_workers=4, save_every=5000, log_every=100,
)  # fmt: skip
def edm_cifar10(
    *,
    net: Backbone = "unet",
    width: int = 128,
    dropout: float = 0.13,
    augment: Share = 0.12,
    data_dir: Location = "",
    bf16: bool = False,
) -> Fit:
    """EDM on CIFAR-10 without labels at the paper's scale; needs GPUs.

    `--features FILE` measures its FID, of 50,000 samples against the training set.

    The average of the weights has the paper's half-life of 500,000 images, 977 steps.

    Args:
        net: which network, a U-Net or a transformer over patches (DiT).
        width: channels of the U-Net at full resolution, twice as many below; a third of the features of a DiT.
        dropout: in the blocks.
        augment: probability of each change of the images in training, which the network is given; half of the images are then
            mirrored by it, not by the data. 0 trains on the images, as they are and mirrored.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
        bf16: whether the network computes in bfloat16.
    """
    from datamodules.readers.images import Images
    from lightning_modules.diffusion.augmentation import LABELS
    from lightning_modules.diffusion.models.edm import edm

    images = Images(name="uoft-cs/cifar10", data_dir=data_dir, flip=not augment)
    made = image_net(
        net, images, width, multiples=(2, 2, 2), blocks=4, head=2 * width, dropout=dropout, bf16=bf16,
        numbers=LABELS if augment else 0,
    )  # fmt: skip
    return Fit(edm(made, images.shape, augment=augment), images)
