"""Flows by their own names, on a user's data: `reprise train maf --data table.csv`, `reprise train glow --data photos/ --size 32`."""

from __future__ import annotations

from typing import Any

from ray_jobs.recipe import Fit, Headline, Location, fit
from ray_jobs.recipe.measures import held_out

OPTIONS: dict[str, Any] = {
    "data": "", "steps": 5000, "batch": 128, "lr": 1e-3, "warmup": 100, "ema": 0.998, "grad_clip": 10.0
}  # fmt: skip
"""Options of a training on a user's data."""


@fit(system="MAF", headline=Headline("Papamakarios et al. 2017", arxiv="1705.07057"), **OPTIONS)
def maf(*, data: Location = "", size: int = 0, depth: int = 5, width: int = 64) -> Fit:
    """MAF on a table, or on vectors of a known density.

    Args:
        data: a table (.csv, .tsv, .parquet, .npz, .npy) or the name of a density.
        size: dimensions of a density.
        depth: autoregressive layers.
        width: units of each of two hidden layers.
    """
    from datamodules.readers.own import read
    from lightning_modules.flows.maf import MAF

    rows = read(data, kind="vectors", size=size)
    return Fit(MAF(rows.shape, depth=depth, hidden=(width, width)), rows, held_out)


@fit(system="IAF", headline=Headline("Kingma et al. 2016", arxiv="1606.04934"), **OPTIONS)
def iaf(*, data: Location = "", size: int = 0, depth: int = 5, width: int = 64) -> Fit:
    """IAF on a table, or on vectors of a known density.

    Args:
        data: a table (.csv, .tsv, .parquet, .npz, .npy) or the name of a density.
        size: dimensions of a density.
        depth: autoregressive layers.
        width: units of each of two hidden layers.
    """
    from datamodules.readers.own import read
    from lightning_modules.flows.iaf import IAF

    rows = read(data, kind="vectors", size=size)
    return Fit(IAF(rows.shape, depth=depth, hidden=(width, width)), rows, held_out)


@fit(system="Spline flow", headline=Headline("Durkan et al. 2019", arxiv="1906.04032"), **OPTIONS)
def nsf(*, data: Location = "", size: int = 0, depth: int = 4, width: int = 64, bins: int = 8) -> Fit:
    """A spline flow on a table, or on vectors of a known density.

    Args:
        data: a table (.csv, .tsv, .parquet, .npz, .npy) or the name of a density.
        size: dimensions of a density.
        depth: couplings.
        width: units of each hidden layer.
        bins: of each spline.
    """
    from datamodules.readers.own import read
    from lightning_modules.flows.nsf import NSF

    rows = read(data, kind="vectors", size=size)
    return Fit(NSF(rows.shape, depth=depth, width=width, bins=bins), rows, held_out)


@fit(system="NICE", headline=Headline("Dinh et al. 2015", arxiv="1410.8516"), **OPTIONS)
def nice(*, data: Location = "", size: int = 0, couplings: int = 4, width: int = 256, depth: int = 3) -> Fit:
    """NICE on a table, on images or on vectors of a known density.

    Args:
        data: a table, a folder of images, or the name of a set or density.
        size: of images their sides, of a density its dimensions.
        couplings: additive couplings.
        width: units of each hidden layer.
        depth: hidden layers of each coupling.
    """
    from datamodules.readers.own import read
    from lightning_modules.flows.nice import NICE

    found = read(data, size=size)
    model = NICE(found.shape, couplings=couplings, width=width, depth=depth, levels=found.levels)
    return Fit(model, found, held_out)


@fit(system="RealNVP", headline=Headline("Dinh et al. 2017", arxiv="1605.08803"), **OPTIONS)
def realnvp(*, data: Location = "", size: int = 0, depth: int = 0, width: int = 32, scales: int = 2) -> Fit:
    """RealNVP on a table, on images or on vectors of a known density.

    Args:
        data: a table, a folder of images, or the name of a set or density.
        size: of images their sides, of a density its dimensions.
        depth: of vectors the couplings, of images the residual blocks of each network; 0: 8 or 2.
        width: units, or channels at full resolution.
        scales: of images.
    """
    from datamodules.readers.own import read
    from lightning_modules.flows.realnvp import RealNVP

    found = read(data, size=size)
    depth = depth or (8 if len(found.shape) == 1 else 2)
    return Fit(RealNVP(found.shape, depth=depth, width=width, scales=scales, levels=found.levels), found, held_out)


@fit(system="Glow", headline=Headline("Kingma & Dhariwal 2018", arxiv="1807.03039"), **OPTIONS)
def glow(*, data: Location = "", size: int = 0, depth: int = 4, width: int = 32, scales: int = 2) -> Fit:
    """Glow on images.

    Args:
        data: a folder of images, or the name of a set.
        size: height and width that the images of a folder are brought to; 0: 32.
        depth: steps of the flow at each scale.
        width: channels inside the couplings' networks.
        scales: how often the image is halved.
    """
    from datamodules.readers.own import read
    from lightning_modules.flows.glow import Glow

    images = read(data, kind="images", size=size)
    return Fit(Glow(images.shape, steps=depth, scales=scales, width=width, levels=images.levels), images, held_out)
