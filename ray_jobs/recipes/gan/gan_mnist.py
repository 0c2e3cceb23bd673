"""GAN on MNIST at the paper's scale; needs a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe import Fit, Headline, Location, fit

if TYPE_CHECKING:
    from datamodules.base import Data
    from lightning_modules.gan.gan import GAN


@fit(
    system="GAN",
    data="MNIST",
    headline=Headline(
        "Goodfellow et al. 2014", arxiv="1406.2661", metric="Parzen log-likelihood", value=225, where="Table 1"
    ),
    space={"lr": "loguniform(5e-5,1e-3)", "width": "choice(256,512,1200)"},
    steps=100_000,
    batch=100,
    lr=2e-4,
    ema=0.0,
    num_workers=4,
    save_every=5000,
    log_every=100,
)
def gan_mnist(
    *,
    batch: int,
    lr: float,
    num_workers: int,
    objective: str = "non_saturating",
    width: int = 1200,
    depth: int = 2,
    noise: int = 100,
    data_dir: Location = "",
) -> Fit:
    """GAN on MNIST at the paper's scale; needs a GPU.

    A GAN with multilayer perceptrons on MNIST from the Hugging Face hub.

    Args:
        objective: of the generator, 'non_saturating' or 'minimax'.
        width: units of each hidden layer of both nets.
        depth: hidden layers of both nets.
        noise: numbers that the generator starts from.
        data_dir: local folder of parquet files with the columns image and label; '' takes the hub.
    """
    from datamodules.readers.images import Images
    from lightning_modules.gan.gan import GAN
    from lightning_modules.nets.adversarial import dense_critic, dense_generator

    images = Images(batch=batch, name="ylecun/mnist", data_dir=data_dir, num_workers=num_workers)
    generator = dense_generator(noise, images.shape, width=width, depth=depth)
    critic = dense_critic(images.shape, width=width, depth=depth)
    model = GAN(generator, critic, noise, objective=objective, lr=lr)  # type: ignore[arg-type]
    return Fit(model, images, evaluate)


def evaluate(model: GAN, data: Data) -> dict[str, float]:
    """Log-likelihood of held-out digits in [0, 1] under a Parzen window on 10,000 drawn ones; its width is fitted to 1,000."""
    import torch

    from lightning_modules.metrics.samples import parzen

    grey = [
        (x.cpu()[:, 0] + 1) / 2 for x in (model.sample(10_000, rng=torch.Generator().manual_seed(0)), data.test()["x"])
    ]
    drawn, held = grey[0], grey[1]
    fitted = min(1000, len(held) // 2)
    widths = torch.logspace(-1, 0, 10).tolist()
    best = max(widths, key=lambda width: parzen(held[:fitted], drawn, width=width))
    return {"parzen_log_likelihood": parzen(held[fitted:], drawn, width=best)}
