"""GAN on MNIST at the paper's scale; needs a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe.plan import Fit, Headline

if TYPE_CHECKING:
    from datamodules.base import Data
    from lightning_modules.gan.gan import GAN

system = "GAN"
data = "MNIST"
headline = Headline(
    "Goodfellow et al. 2014", arxiv="1406.2661", metric="Parzen log-likelihood", value=225, where="Table 1"
)
claim = None
space = {"lr": "loguniform(5e-5,1e-3)", "width": "choice(256,512,1200)"}


def recipe(
    *,
    steps: int = 100_000,
    batch: int = 100,
    objective: str = "non_saturating",
    lr: float = 2e-4,
    width: int = 1200,
    depth: int = 2,
    noise: int = 100,
    ema: float = 0.0,
    data_dir: str = "",
    num_workers: int = 4,
) -> Fit:
    """A GAN with multilayer perceptrons on MNIST from the Hugging Face hub.

    Args:
        steps: of the generator.
        batch: global batch, over all workers.
        objective: of the generator, 'non_saturating' or 'minimax'.
        lr: learning rate of both players' Adam.
        width: units of each hidden layer of both nets.
        depth: hidden layers of both nets.
        noise: numbers that the generator starts from.
        ema: decay of the average of the generator's weights.
        data_dir: local folder of parquet files with the columns image and label; '' takes the hub.
        num_workers: processes that decode images ahead.
    """
    from datamodules.readers.images import Images
    from lightning_modules.gan.gan import GAN
    from lightning_modules.nets.adversarial import dense_discriminator, dense_generator
    from lightning_modules.optim import Adam

    images = Images(batch, name="ylecun/mnist", data_dir=data_dir, num_workers=num_workers)
    generator = dense_generator(noise, images.shape, width=width, depth=depth)
    discriminator = dense_discriminator(images.shape, width=width, depth=depth)
    model = GAN(generator, discriminator, noise, objective=objective, optim=Adam(lr, betas=(0.5, 0.999)))  # type: ignore[arg-type]
    return Fit(model, images, steps, evaluate, ema=ema, save_every=5000, log_every=100)


def evaluate(model: GAN, data: Data) -> dict[str, float]:
    """Log-likelihood of held-out digits in [0, 1] under a Parzen window on 10,000 drawn ones; its width is fitted to 1,000."""
    import torch

    from lightning_modules.metrics.likelihood import parzen

    grey = [
        (x.cpu()[:, 0] + 1) / 2 for x in (model.sample(10_000, rng=torch.Generator().manual_seed(0)), data.test()["x"])
    ]
    drawn, held = grey[0], grey[1]
    fitted = min(1000, len(held) // 2)
    widths = torch.logspace(-1, 0, 10).tolist()
    best = max(widths, key=lambda width: parzen(held[:fitted], drawn, width=width))
    return {"parzen_log_likelihood": parzen(held[fitted:], drawn, width=best)}
