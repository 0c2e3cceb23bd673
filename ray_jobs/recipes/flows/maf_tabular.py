"""MAF on a copula with known margins: the gap to the entropy."""

from __future__ import annotations

from functools import partial

from ray_jobs.recipe import Claim, Fit, Headline, fit
from ray_jobs.recipe.measures import gap_to_entropy


@fit(
    system="MAF",
    data="tabular",
    headline=Headline("Papamakarios et al. 2017", arxiv="1705.07057"),
    claim=Claim("excess_nats", at_most=0.36),
    space={"lr": "loguniform(5e-4,1e-2)", "width": "choice(32,64,128)"},
    steps=1500,
    batch=256,
    lr=0.001,
    ema=0.998,
    grad_clip=1.0,
)
def maf_tabular(
    *, batch: int, lr: float, like: str = "hepmass", copula: str = "clayton", depth: int = 5, width: int = 128
) -> Fit:
    """MAF on a copula with known margins: the gap to the entropy.

    MAF on rows of numbers of known dependence.

    Args:
        like: whose dimensions: 'power' 6, 'gas' 8, 'hepmass' 21, 'miniboone' 43 or 'bsds300' 63.
        copula: 'gaussian' or 'clayton'.
        depth: autoregressive layers.
        width: units of each hidden layer.
    """
    from datamodules.labs.copulas import Tabular
    from lightning_modules.flows.maf import MAF

    rows = Tabular(batch=batch, like=like, copula=copula)
    model = MAF(rows.shape, depth=depth, hidden=(width, width), lr=lr, warmup=100)
    return Fit(model, rows, partial(gap_to_entropy, n=20_000))
