"""Diffusion by its own name, on a user's data: `reprise train ddpm --data photos/ --size 32`, `reprise train ddpm --data mnist`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ray_jobs.recipe import Fit, Headline, Location, UsageError, fit
from ray_jobs.recipes.diffusion.shared import Backbone, image_net, level_input

if TYPE_CHECKING:
    from datamodules.base import Data
    from lightning_modules.diffusion.denoising import Denoising


@fit(
    system="DDPM", headline=Headline("Ho et al. 2020", arxiv="2006.11239"), data="", steps=20_000, batch=64, lr=2e-4,
    warmup=500, ema=0.999, grad_clip=1.0, log_every=50,
)  # fmt: skip
def ddpm(
    *,
    data: Location = "",
    size: int = 0,
    net: Backbone = "unet",
    width: int = 64,
    levels: int = 1000,
    dropout: float = 0.0,
    diffusers: bool = False,
) -> Fit:
    """DDPM on images, or on a table.

    Args:
        data: a folder of images, a table, or the name of a set or density.
        size: of images their sides, of a density its dimensions.
        net: which network of images, a U-Net or a transformer over patches (DiT).
        width: channels of the U-Net at full resolution, twice as many below; a third of the features of a DiT; of vectors, units of
            each hidden layer.
        levels: noise levels in training and sampling.
        dropout: in the blocks.
        diffusers: whether the network of images is one that diffusers has, so that `reprise export` can write it.
    """
    from datamodules.readers.own import read
    from lightning_modules.diffusion import schedules
    from lightning_modules.diffusion.models.ddpm import ddpm as build
    from lightning_modules.nets.mlp import ResidualMLP
    from lightning_modules.objectives import discretised_gaussian_log_prob, gaussian_log_prob

    found = read(data, size=size)
    images = len(found.shape) == 3
    if net == "dit" and not images:
        raise UsageError(
            f"--net dit is for images, but an example of this data has the shape {found.shape}: leave it out."
        )
    if diffusers and not images:
        raise UsageError(
            f"--diffusers is for images, but an example of this data has the shape {found.shape}: leave it out."
        )
    made = (
        image_net(net, found, width, multiples=(1, 2), head=width, depth=8, dropout=dropout, diffusers=diffusers)
        if images
        else ResidualMLP(found.shape, width=width, depth=3)
    )
    decoder = partial(discretised_gaussian_log_prob, levels=found.levels) if found.levels else gaussian_log_prob
    table = schedules.linear(levels, 0.1 / levels, 20 / levels)
    given = level_input(table, diffusers)
    return Fit(build(made, found.shape, levels=table, decoder=decoder, clip=images, level_input=given), found, bound)


def bound(model: Denoising, data: Data) -> dict[str, float]:
    """The bound on at most 256 held-out examples in bits per dimension, 50 of its terms each; none for continuous data."""
    import torch

    if not data.levels:
        return {}
    x, rng = data.test(256)["x"].to(model.device), torch.Generator().manual_seed(0)
    bits = torch.cat(
        [model.bits_per_dim(part, terms=min(50, len(model.bound.levels)), rng=rng) for part in x.split(64)]
    )
    return {"bits_per_dim": bits.mean().item()}
