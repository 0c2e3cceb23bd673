"""MAF on vectors of a known density: the gap to the entropy."""

from __future__ import annotations

from ray_jobs.recipe import Claim, Fit, Headline, Variant, fit
from ray_jobs.recipe.measures import gap_to_entropy


@fit(
    system="MAF",
    data="density2d, ring",
    headline=Headline("Papamakarios et al. 2017", arxiv="1705.07057"),
    claim=Claim("excess_nats", at_most=0.18),
    space={"lr": "loguniform(5e-4,1e-2)", "width": "choice(32,64,128)"},
    variants={
        "moons": Variant("density2d, moons", Claim("excess_nats", at_most=0.025), {"density": "moons"}),
        "pinwheel8": Variant(
            "density2d, pinwheel in 8 dimensions",
            Claim("excess_nats", at_most=0.18),
            {"density": "pinwheel", "size": 8},
        ),
        "clayton": Variant(
            "tabular, Clayton in 8 dimensions", Claim("excess_nats", at_most=0.03), {"density": "clayton", "size": 8}
        ),
        "mog_ring": Variant(
            "density2d, ring, by mixtures",
            Claim("excess_nats", at_most=0.02),
            {"components": 16, "depth": 1, "batch": 256, "lr": 0.004},
        ),
        "mog_grid": Variant(
            "density2d, grid, by mixtures",
            Claim("excess_nats", at_most=0.01),
            {"density": "grid", "components": 16, "depth": 1, "lr": 0.004},
        ),
        "mog_moons": Variant(
            "density2d, moons, by mixtures",
            Claim("excess_nats", at_most=0.02),
            {"density": "moons", "components": 8, "depth": 2, "batch": 256, "lr": 0.004},
        ),
    },
    steps=2000,
    batch=512,
    lr=0.002,
    ema=0.998,
    grad_clip=1.0,
)
def maf_density2d(
    *, batch: int, lr: float, density: str = "ring", size: int = 2, depth: int = 8, width: int = 64, components: int = 0
) -> Fit:
    """MAF on vectors of a known density: the gap to the entropy.

    MAF on vectors.

    Args:
        density: 'ring', 'grid', 'pinwheel', 'checkerboard', 'rings', 'spirals', 'moons', 'banana', 'wave' or 'funnel', in more than two
            dimensions beside normal numbers and turned; or a copula, 'gaussian' or 'clayton'.
        size: dimensions; of a copula 6, 8, 21, 43 or 63.
        depth: autoregressive layers.
        width: units of each hidden layer.
        components: Gaussians in each conditional of a last layer of mixtures; 0: there is none.
    """
    from datamodules.labs.vectors import vectors
    from lightning_modules.flows.maf import MAF

    points = vectors(density, size, batch=batch)
    model = MAF(points.shape, depth=depth, hidden=(width, width), components=components, lr=lr, warmup=100)
    return Fit(model, points, gap_to_entropy)
