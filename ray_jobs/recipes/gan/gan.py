"""GAN on a grid of Gaussians and on MNIST."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe import Claim, Fit, Headline, Location, fit
from ray_jobs.recipe.measures import modes_found

if TYPE_CHECKING:
    from datamodules.base import Data
    from lightning_modules.gan.gan import GAN


@fit(
    system="GAN", data="density2d", headline=Headline("Goodfellow et al. 2014", arxiv="1406.2661"),
    claim=Claim("modes_hit", at_least=15), space={"lr": "loguniform(1e-4,5e-3)", "width": "choice(64,128,256)"},
    steps=4000, batch=256, lr=1e-3, ema=0.999, log_every=50,
)  # fmt: skip
def gan_grid(
    *, density: str = "sharp_grid", objective: str = "non_saturating", width: int = 128, depth: int = 3,
    latents: int = 2
) -> Fit:  # fmt: skip
    """GAN on a grid of 25 Gaussians in the plane: how many it finds.

    Args:
        density: 'sharp_grid', with nearly nothing between its modes, or 'grid', whose broad modes even uniform noise hits.
        objective: of the generator, 'non_saturating' or 'minimax'.
        width: units of each hidden layer of both networks.
        depth: hidden layers of both networks.
        latents: that a point is generated from.
    """
    from datamodules.labs.density2d import Density2D
    from lightning_modules.gan.gan import GAN
    from lightning_modules.nets.adversarial import dense_discriminator, dense_generator

    points = Density2D(name=density)
    generator = dense_generator(latents, points.shape, width=width, depth=depth)
    discriminator = dense_discriminator(points.shape, width=width, depth=depth)
    return Fit(GAN(generator, discriminator, latents, objective=objective), points, modes_found)  # type: ignore[arg-type]


@fit(
    system="GAN", data="MNIST",
    headline=Headline("Goodfellow et al. 2014", arxiv="1406.2661", metric="Parzen log-likelihood", value=225,
                      where="Table 1"),
    space={"lr": "loguniform(5e-5,1e-3)", "width": "choice(256,512,1200)"}, steps=100_000, batch=100, lr=2e-4, ema=0.0,
    num_workers=4, save_every=5000, log_every=100,
)  # fmt: skip
def gan_mnist(
    *, objective: str = "non_saturating", width: int = 1200, depth: int = 2, latents: int = 100, data_dir: Location = ""
) -> Fit:
    """GAN on MNIST at the paper's scale; needs a GPU.

    Args:
        objective: of the generator, 'non_saturating' or 'minimax'.
        width: units of each hidden layer of both networks.
        depth: hidden layers of both networks.
        latents: that an image is generated from.
        data_dir: local folder of parquet files with the columns image and label; '' takes the hub.
    """
    from datamodules.readers.images import Images
    from lightning_modules.gan.gan import GAN
    from lightning_modules.nets.adversarial import dense_discriminator, dense_generator

    images = Images(name="ylecun/mnist", data_dir=data_dir)
    generator = dense_generator(latents, images.shape, width=width, depth=depth)
    discriminator = dense_discriminator(images.shape, width=width, depth=depth)
    return Fit(GAN(generator, discriminator, latents, objective=objective), images, parzen_of_digits)  # type: ignore[arg-type]


def parzen_of_digits(model: GAN, data: Data) -> dict[str, float]:
    """Log-likelihood of held-out digits in [0, 1] under a Parzen window on 10,000 samples; its width is fitted to 1,000 digits."""
    import torch

    from lightning_modules.metrics.likelihood import parzen

    drawn, held = (
        (x.cpu()[:, 0] + 1) / 2 for x in (model.sample(10_000, rng=torch.Generator().manual_seed(0)), data.test()["x"])
    )
    fitted = min(1000, len(held) // 2)
    widths = torch.logspace(-1, 0, 10).tolist()
    best = max(widths, key=lambda width: parzen(held[:fitted], drawn, width=width))
    return {"parzen_log_likelihood": parzen(held[fitted:], drawn, width=best)}
