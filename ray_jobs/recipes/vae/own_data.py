"""VAEs by their own names, on a user's data: `reprise train vae --data table.csv`."""

from __future__ import annotations

from typing import Any

from ray_jobs.recipe import Fit, Headline, Location, fit
from ray_jobs.recipe.measures import held_out

OPTIONS: dict[str, Any] = {
    "data": "", "steps": 5000, "batch": 128, "lr": 1e-3, "warmup": 100, "ema": 0.998, "grad_clip": 10.0
}  # fmt: skip
"""Options of a training on a user's data."""


@fit(system="VAE", headline=Headline("Kingma & Welling 2014", arxiv="1312.6114"), **OPTIONS)
def vae(*, data: Location = "", size: int = 0, latents: int = 16, width: int = 256, kl_annealing: int = 500) -> Fit:
    """A VAE of multilayer perceptrons on a table or on images.

    Args:
        data: a table, a folder of images, or the name of a set or density.
        size: of images their sides, of a density its dimensions.
        latents: of an example.
        width: units of each of two hidden layers, of encoder and decoder.
        kl_annealing: steps over which the weight of the divergence rises to 1.
    """
    import math

    from torch import nn

    from datamodules.readers.own import read
    from lightning_modules.nets.conditioned import MLP
    from lightning_modules.vae.likelihood import Bernoulli, DiscretisedLogistic, Gaussian, Likelihood
    from lightning_modules.vae.vae import VAE

    found = read(data, size=size)
    entries, first, *rest = math.prod(found.shape), *found.shape
    each: Likelihood = Gaussian(0.2, per_element=True)
    if found.levels:
        each = Bernoulli() if found.levels == 2 else DiscretisedLogistic(found.levels, per_element=True)
    outputs = 1 if found.levels == 2 else 2
    encoder = nn.Sequential(nn.Flatten(), MLP(entries, 2 * latents, width=width))
    decoder = nn.Sequential(MLP(latents, outputs * entries, width=width), nn.Unflatten(1, (outputs * first, *rest)))
    return Fit(VAE(encoder, decoder, each, found.shape, latents, kl_annealing=kl_annealing), found, held_out)
