"""A network that diffusers has saved: `reprise train pretrained --network folder/ --data photos/`; `reprise import` makes a run of it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ray_jobs.recipe import Fit, Headline, Location, RequiredLocation, UsageError, fit
from ray_jobs.recipes.diffusion.own_data import bound

if TYPE_CHECKING:
    from datamodules.base import Data


@fit(
    system="DDPM", headline=Headline("Ho et al. 2020", arxiv="2006.11239"), data="images of your own", steps=1000, batch=64, lr=2e-5,
    warmup=100, ema=0.999, grad_clip=1.0, log_every=50,
)  # fmt: skip
def pretrained(*, network: RequiredLocation = "", data: Location = "", label: str = "") -> Fit:
    """Further training of a diffusion model that diffusers has saved, a UNet2DModel or a DiT.

    Args:
        network: folder of the network and its scheduler, as diffusers saves them.
        data: a folder of images, or the name of a set; '' for a model that is sampled alone.
        label: column of the labels, or any word where the directories of image files are the labels; '' for none.
    """
    from lightning_modules.exchange.model import imported
    from lightning_modules.objectives import discretised_gaussian_log_prob
    from ray_jobs.run import diffusers_folder

    try:
        model = imported(diffusers_folder.read(network))
    except ValueError as error:
        raise UsageError(f"{network} cannot be imported: {error}") from error
    found = data_of(data, model.shape, model.net.condition.classes, label)  # type: ignore[union-attr]  # a U-Net or a DiT
    if found.levels:
        decoder = partial(discretised_gaussian_log_prob, levels=found.levels)
        model.bound = replace(model.bound, decoder=decoder)
    return Fit(model, found, bound)


def data_of(data: str, shape: tuple[int, ...], classes: int, label: str) -> Data:
    """The images of a user for a network of this shape and number of labels; without data, none.

    Raises:
        UsageError: they are of another shape, or have other labels.
    """
    from datamodules.readers.absent import Absent
    from datamodules.readers.own import read

    if not data:
        return Absent(shape, classes)
    found = read(data, kind="images", size=shape[1], channels=shape[0], label=label, classes=classes if label else 0)
    if found.shape != shape:
        raise UsageError(f"The network is of images {shape}, but those of {data} are {found.shape}.")
    if classes and not 0 < found.classes <= classes:
        raise UsageError(
            f"The network has {classes} labels, but {data} has {found.classes or 'none'}: give its labels by --label."
        )
    return found
