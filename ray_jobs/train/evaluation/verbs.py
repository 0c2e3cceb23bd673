"""The verb `reprise statistics`: the moments of a recipe's images, in a file that samples are compared with."""

from __future__ import annotations

from pathlib import Path

from ray_jobs.errors import UsageError
from ray_jobs.recipe.settings import check, known
from ray_jobs.recipe.spec import Spec


def statistics(spec: Spec, *, file: str = "statistics.npz") -> Path:
    """Write the moments of the features of a recipe's images.

    These are their mean and covariance. The file is a reference of --features: give it as --reference FILE. It records the network's
    SHA-256, the resolution and the number of images. Images are read, cropped and resized as the recipe does it.

    Args:
        spec: the recipe, --features, and as --reference the part of its images, train or test.
        file: to write.

    Raises:
        UsageError: the recipe is not of images, or the part or the network cannot be used.
    """
    from ray_jobs.run.files import write

    if "features" not in known(spec.recipe):
        raise UsageError(f"{spec.recipe} trains no model of images: it has nothing to take statistics of.")
    settings = check(spec.recipe, spec.settings, spec.where)
    if not settings.get("features"):
        raise UsageError("reprise statistics needs a network: give --features.")
    if settings.get("reference", "train") not in ("train", "test"):
        raise UsageError(f"--reference is the part to take statistics of, train or test, not {settings['reference']}.")
    import torch

    from ray_jobs.train.evaluation import images
    from ray_jobs.train.fit import device_of, prepare

    made = prepare(Spec(spec.recipe, settings, spec.seed, spec.where))
    try:
        found = images.statistics(made, torch.device(device_of(spec.where)), spec.recipe)
    except ValueError as error:
        raise UsageError(str(error)) from error
    write(Path(file), found.write)
    return Path(file)
