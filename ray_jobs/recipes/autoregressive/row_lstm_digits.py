"""Row LSTM on handwritten digits of few grey levels: exact bits per pixel, no download."""

from __future__ import annotations

from ray_jobs.recipe import Claim, Fit, Headline, fit
from ray_jobs.recipe.measures import exact_bits_of_digits


@fit(
    system="Row LSTM",
    data="digits, 4 levels",
    headline=Headline("van den Oord et al. 2016", arxiv="1601.06759"),
    claim=Claim("bits_per_dim", at_most=0.85),
    space={"lr": "loguniform(5e-4,1e-2)", "width": "choice(12,16,24)"},
    steps=600,
    batch=50,
    lr=4e-3,
    ema=0.99,
    grad_clip=1.0,
)
def row_lstm_digits(*, batch: int, lr: float, width: int = 16, depth: int = 2, head: int = 32, levels: int = 4) -> Fit:
    """Row LSTM on handwritten digits of few grey levels: exact bits per pixel, no download.

    A small Row LSTM on the 8x8 digits of scikit-learn.

    Args:
        width: h; residual layers have 2h features.
        depth: residual layers.
        head: features between the last two convolutions.
        levels: of grey; 17 are all that the digits have.
    """
    from datamodules.readers.digits import Digits
    from lightning_modules.autoregressive.row_lstm import RowLSTM

    model = RowLSTM(Digits.shape, depth=depth, width=width, head=head, levels=levels, lr=lr, warmup=50)
    return Fit(model, Digits(batch=batch, levels=levels), exact_bits_of_digits)
