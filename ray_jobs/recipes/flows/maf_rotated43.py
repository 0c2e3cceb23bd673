"""MAF on a density of the plane that is hidden in 43 dimensions: the gap to the entropy."""

from __future__ import annotations

from functools import partial

from ray_jobs.recipe import Claim, Fit, Headline, fit
from ray_jobs.recipe.measures import gap_to_entropy


@fit(
    system="MAF",
    data="density2d, rotated",
    headline=Headline("Papamakarios et al. 2017", arxiv="1705.07057"),
    claim=Claim("excess_nats", at_most=0.95),
    space={"lr": "loguniform(5e-4,1e-2)", "width": "choice(32,64,128)"},
    steps=1500,
    batch=256,
    lr=0.001,
    ema=0.998,
    grad_clip=1.0,
)
def maf_rotated43(
    *, batch: int, lr: float, density: str = "pinwheel", size: int = 43, depth: int = 5, width: int = 128
) -> Fit:
    """MAF on a density of the plane that is hidden in 43 dimensions: the gap to the entropy.

    MAF on the plane's points beside independent normal numbers, all turned.

    Args:
        density: 'ring', 'grid', 'pinwheel', 'checkerboard', 'rings', 'spirals', 'moons', 'banana', 'wave' or 'funnel'.
        size: dimensions.
        depth: autoregressive layers.
        width: units of each hidden layer.
    """
    from datamodules.labs.density2d import Density2D
    from lightning_modules.flows.maf import MAF

    points = Density2D(batch=batch, name=density, size=size)
    model = MAF(points.shape, depth=depth, hidden=(width, width), lr=lr, warmup=100)
    return Fit(model, points, partial(gap_to_entropy, n=20_000))
