"""Recipes of MAF."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ray_jobs.recipe import Fit, Headline, RequiredLocation, Variant, fit
from ray_jobs.recipe.measures import gap_to_entropy
from ray_jobs.recipes.flows import shared

if TYPE_CHECKING:
    from datamodules.base import Data
    from lightning_modules.flows.maf import MAF


def paper(value: float | None = None) -> Headline:
    """The paper, and its log likelihood on one table."""
    where = {"metric": "log likelihood, nats", "value": value, "where": "Table 1"} if value is not None else {}
    return Headline("Papamakarios et al. 2017", arxiv="1705.07057", **where)  # type: ignore[arg-type]


@fit(
    system="MAF", data="density2d, ring", headline=paper(), claim=shared.excess(0.18), space=shared.SPACE,
    variants={
        "moons": shared.moons(0.025),
        "pinwheel8": shared.pinwheel8(0.18),
        "clayton": shared.clayton(0.03),
        "mog_ring": Variant("density2d, ring, by mixtures", shared.excess(0.02),
                            {"components": 16, "depth": 1, "batch": 256, "lr": 0.004}),
        "mog_grid": Variant("density2d, grid, by mixtures", shared.excess(0.01),
                            {"density": "grid", "components": 16, "depth": 1, "lr": 0.004}),
        "mog_moons": Variant("density2d, moons, by mixtures", shared.excess(0.02),
                             {"density": "moons", "components": 8, "depth": 2, "batch": 256, "lr": 0.004}),
    },
    steps=2000, **shared.VECTORS,
)  # fmt: skip
def maf_density2d(*, density: str = "ring", size: int = 2, depth: int = 8, width: int = 64, components: int = 0) -> Fit:
    """MAF on vectors of a known density: the gap to the entropy.

    Args:
        density: name of a density of the plane, in more dimensions joined by normal ones and rotated; or of a copula.
        size: dimensions; of a copula 6, 8, 21, 43 or 63.
        depth: autoregressive layers.
        width: units of each of two hidden layers.
        components: Gaussians in each conditional of a last layer of mixtures; 0: there is none.
    """
    from lightning_modules.flows.maf import MAF

    return shared.on_vectors(partial(MAF, depth=depth, hidden=(width, width), components=components), density, size)


LARGE: dict[str, Any] = {
    "space": shared.SPACE,
    "steps": 1500,
    "batch": 256,
    "lr": 0.001,
    "warmup": 100,
    "ema": 0.998,
    "grad_clip": 1.0,
}
"""Search space and options of a training on vectors of many dimensions."""


@fit(system="MAF", data="density2d, rotated", headline=paper(), claim=shared.excess(0.95), **LARGE)
def maf_rotated43(*, density: str = "pinwheel", size: int = 43, depth: int = 5, width: int = 128) -> Fit:
    """MAF on a density of the plane that is hidden in 43 dimensions: the gap to the entropy.

    The plane's points are joined by independent normal values, and all is rotated.

    Args:
        density: name of a density of the plane.
        size: dimensions.
        depth: autoregressive layers.
        width: units of each of two hidden layers.
    """
    from datamodules.labs.density2d import Density2D

    return many_dimensions(Density2D(name=density, size=size), depth, width)


@fit(system="MAF", data="tabular", headline=paper(), claim=shared.excess(0.36), **LARGE)
def maf_tabular(*, like: str = "hepmass", copula: str = "clayton", depth: int = 5, width: int = 128) -> Fit:
    """MAF on a copula with known margins: the gap to the entropy.

    Args:
        like: table whose dimensions it has: 'power' 6, 'gas' 8, 'hepmass' 21, 'miniboone' 43 or 'bsds300' 63.
        copula: 'gaussian' or 'clayton'.
        depth: autoregressive layers.
        width: units of each of two hidden layers.
    """
    from datamodules.labs.copulas import Copulas

    return many_dimensions(Copulas(like=like, copula=copula), depth, width)


def many_dimensions(data: Data, depth: int, width: int) -> Fit:
    """The training of MAF on vectors of a known density in many dimensions."""
    from lightning_modules.flows.maf import MAF

    return Fit(MAF(data.shape, depth=depth, hidden=(width, width)), data, partial(gap_to_entropy, n=20_000))


@fit(
    system="MAF", data="POWER", headline=paper(0.24),
    space={"lr": "loguniform(3e-5,1e-3)", "width": "choice(100,256,512)"},
    variants={
        "gas": Variant("GAS", None, {"table": "gas"}, paper(10.08)),
        "hepmass": Variant("HEPMASS", None, {"table": "hepmass", "steps": 200_000, "width": 512}, paper(-17.7)),
        "miniboone": Variant("MINIBOONE", None, {"table": "miniboone", "steps": 30_000, "depth": 5, "width": 512},
                             paper(-11.75)),
        "bsds300": Variant("BSDS300", None, {"table": "bsds300", "depth": 5, "width": 512}, paper(155.69)),
    },
    steps=500_000, batch=100, lr=1e-4, ema=0.999, grad_clip=100.0, save_every=5000, log_every=100,
)  # fmt: skip
def maf_uci(*, table: str = "power", folder: RequiredLocation = "", depth: int = 10, width: int = 100) -> Fit:
    """MAF of 10 layers with batch norm on a UCI table at the paper's settings.

    No early stopping on the validation rows, but an average of the weights.

    Args:
        table: power, gas, hepmass, miniboone or bsds300.
        folder: the tarball of Zenodo's record 1161203, or the folder where it is or was unpacked.
        depth: autoregressive layers.
        width: units of each of two hidden layers.
    """
    from datamodules.readers.uci import UCI
    from lightning_modules.flows.maf import MAF

    rows = UCI(table, folder)
    return Fit(MAF(rows.shape, depth=depth, hidden=(width, width), norm=True), rows, log_likelihood)


def log_likelihood(model: MAF, data: Data) -> dict[str, float]:
    """Mean log likelihood of the held-out rows in nats, and its standard error."""
    import torch

    logs = torch.cat([model.log_prob(part.to(model.device)) for part in data.test()["x"].split(4096)])
    return {"log_likelihood": logs.mean().item(), "log_likelihood_error": (logs.std() / len(logs) ** 0.5).item()}
