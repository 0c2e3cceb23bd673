"""DCGAN on handwritten digits: two minutes on one core, no download."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe.plan import Claim, Fit, Headline

if TYPE_CHECKING:
    from datamodules.readers.digits import Digits
    from lightning_modules.gan.dcgan import DCGAN

system = "DCGAN"
data = "digits"
headline = Headline("Radford et al. 2016", arxiv="1511.06434")
claim = Claim("frechet_pixels", at_most=4.5)
space = {"lr": "loguniform(1e-4,3e-3)", "width": "choice(16,32,64)"}


def recipe(
    *,
    steps: int = 2500,
    batch: int = 100,
    lr: float = 5e-4,
    width: int = 32,
    noise: int = 32,
    ema: float = 0.995,
) -> Fit:
    """DCGAN with strided nets on the 8x8 digits of scikit-learn.

    Args:
        steps: of the generator.
        batch: global batch, over all workers.
        lr: learning rate of both players' Adam.
        width: channels at half the resolution.
        noise: numbers that the generator starts from.
        ema: decay of the average of the generator's weights.
    """
    from datamodules.readers.digits import Digits
    from lightning_modules.gan.dcgan import DCGAN
    from lightning_modules.optim import Adam

    model = DCGAN(Digits.shape, noise, width=width, optim=Adam(lr, betas=(0.5, 0.999)))
    return Fit(model, Digits(batch), steps, evaluate, ema=ema)


def evaluate(model: DCGAN, data: Digits) -> dict[str, float]:
    """The Frechet distance of pixels to the training digits, over that of the held-out ones: the floor; and MMD to these."""
    import torch

    from lightning_modules.metrics.gaussian import frechet_of, moments
    from lightning_modules.metrics.samples import mmd

    real = data.test()["x"]
    train = moments(data.train["x"])
    drawn = model.sample(8 * len(real), rng=torch.Generator().manual_seed(0)).cpu().chunk(8)
    ratio = sum(frechet_of(x, train) for x in drawn) / 8 / frechet_of(real, train)
    return {"frechet_pixels": ratio, "mmd": mmd(torch.cat(drawn), real, width=4.0)}
