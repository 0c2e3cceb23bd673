"""MAF on the five UCI tables at the paper's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe import Fit, Headline, Location, Variant, fit

if TYPE_CHECKING:
    from datamodules.base import Data
    from lightning_modules.flows.maf import MAF


def paper(value: float) -> Headline:
    """The paper's log likelihood on one table."""
    return Headline(
        "Papamakarios et al. 2017", arxiv="1705.07057", metric="log likelihood, nats", value=value, where="Table 1"
    )


@fit(
    system="MAF",
    data="POWER",
    headline=paper(0.24),
    space={"lr": "loguniform(3e-5,1e-3)", "width": "choice(100,256,512)"},
    variants={
        "gas": Variant("GAS", None, {"table": "gas"}, paper(10.08)),
        "hepmass": Variant("HEPMASS", None, {"table": "hepmass", "steps": 200_000, "width": 512}, paper(-17.7)),
        "miniboone": Variant(
            "MINIBOONE", None, {"table": "miniboone", "steps": 30_000, "depth": 5, "width": 512}, paper(-11.75)
        ),
        "bsds300": Variant("BSDS300", None, {"table": "bsds300", "depth": 5, "width": 512}, paper(155.69)),
    },
    steps=500_000,
    batch=100,
    lr=1e-4,
    ema=0.999,
    grad_clip=100.0,
    save_every=5000,
    log_every=100,
)
def maf_uci(
    *, batch: int, lr: float, table: str = "power", folder: Location = "", depth: int = 10, width: int = 100
) -> Fit:
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

    rows = UCI(table, folder, batch=batch)
    return Fit(MAF(rows.shape, depth=depth, hidden=(width, width), norm=True, lr=lr), rows, evaluate)


def evaluate(model: MAF, data: Data) -> dict[str, float]:
    """Mean log likelihood of the held-out rows in nats, and its standard error."""
    import torch

    logs = torch.cat([model.log_prob(part.to(model.device)) for part in data.test()["x"].split(4096)])
    return {"log_likelihood": logs.mean().item(), "log_likelihood_error": (logs.std() / len(logs) ** 0.5).item()}
