"""WaveNet on waves of known probability: bits per sample above the exact code length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray_jobs.recipe import Claim, Fit, Headline, Variant, fit

if TYPE_CHECKING:
    from lightning_modules.autoregressive.wavenet import WaveNet


@fit(
    system="WaveNet",
    data="tones",
    headline=Headline("van den Oord et al. 2016", arxiv="1609.03499"),
    claim=Claim("excess_bits", at_most=0.03),
    space={"lr": "loguniform(5e-4,1e-2)", "residual": "choice(16,32,48)"},
    variants={
        "switching": Variant(
            "switching tones", Claim("excess_bits", at_most=0.08), {"waves": "switching", "steps": 400}
        ),
        "echoes": Variant("echoes", Claim("excess_bits", at_most=0.85), {"waves": "echoes", "steps": 400}),
    },
    steps=800,
    batch=16,
    lr=4e-3,
    ema=0.99,
    grad_clip=1.0,
)
def wavenet_tones(
    *, batch: int, lr: float, waves: str = "tones", layers: int = 6, stacks: int = 1, residual: int = 32, skip: int = 64
) -> Fit:
    """WaveNet on waves of known probability: bits per sample above the exact code length.

    WaveNet on waves of 256 samples: tones of 64 mu-law levels and a pitch that is told; others of 32 levels.

    Args:
        waves: 'tones', 'switching' or 'echoes'.
        layers: in all stacks together.
        stacks: in each, the dilation doubles from 1.
        residual: features of the layers.
        skip: features of the sum of skips.
    """
    from datamodules.labs import waves as known
    from lightning_modules.autoregressive.wavenet import WaveNet

    source = known.waves(waves, batch=batch)
    model = WaveNet(
        source.shape[0],
        levels=source.levels,
        layers=layers,
        stacks=stacks,
        residual=residual,
        skip=skip,
        classes=source.classes,
        rate=source.rate,
        lr=lr,
        warmup=50,
    )
    return Fit(model, source, evaluate)


def evaluate(model: WaveNet, data: Any) -> dict[str, float]:
    """Bits per sample of 256 fresh waves, above the exact code length and in all; and the exact ones."""
    import math

    batch = data.test(256)
    x, label = batch["x"], batch.get("label")
    scale = 1 / (data.shape[0] * math.log(2))
    told = label.to(model.device) if label is not None else None
    bits = -model.log_prob(x.to(model.device), told).double().cpu() * scale
    exact = -data.log_prob(x, label) * scale
    excess = bits - exact
    return {
        "excess_bits": excess.mean().item(),
        "excess_error": (excess.std() / len(x) ** 0.5).item(),
        "bits_per_sample": bits.mean().item(),
        "exact_bits_per_sample": exact.mean().item(),
    }
