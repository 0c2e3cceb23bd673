"""Recipes of WaveNet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray_jobs.recipe import Claim, Fit, Headline, Location, Variant, fit

if TYPE_CHECKING:
    from datamodules.base import Data
    from lightning_modules.autoregressive.wavenet import WaveNet


@fit(
    system="WaveNet", data="tones", headline=Headline("van den Oord et al. 2016", arxiv="1609.03499"),
    claim=Claim("excess_bits", at_most=0.03), space={"lr": "loguniform(5e-4,1e-2)", "residual": "choice(16,32,48)"},
    variants={
        "switching": Variant("switching tones", Claim("excess_bits", at_most=0.08),
                             {"waves": "switching", "steps": 400}),
        "echoes": Variant("echoes", Claim("excess_bits", at_most=0.85), {"waves": "echoes", "steps": 400}),
    },
    steps=800, batch=16, lr=4e-3, warmup=50, ema=0.99, grad_clip=1.0,
)  # fmt: skip
def wavenet_tones(*, waves: str = "tones", layers: int = 6, stacks: int = 1, residual: int = 32, skip: int = 64) -> Fit:
    """WaveNet on waves of known probability: bits per sample above the exact code length.

    Waves of 256 samples: tones of 64 mu-law levels, conditioned on their pitch; the others of 32 levels.

    Args:
        waves: 'tones', 'switching' or 'echoes'.
        layers: in all stacks together.
        stacks: in each, the dilation doubles from 1.
        residual: features of the layers.
        skip: features of the sum of skips.
    """
    from datamodules.labs import waves as known
    from lightning_modules.autoregressive.wavenet import WaveNet

    source = known.waves(waves)
    model = WaveNet(
        source.shape[0],
        levels=source.levels,
        layers=layers,
        stacks=stacks,
        residual=residual,
        skip=skip,
        classes=source.classes,
        rate=source.rate,
    )
    return Fit(model, source, excess_bits)


def excess_bits(model: WaveNet, data: Any) -> dict[str, float]:
    """Bits per sample of 256 fresh waves, above the exact code length and in all; and the exact ones."""
    import math

    batch = data.test(256)
    x, label = batch["x"], batch.get("label")
    scale = 1 / (data.shape[0] * math.log(2))
    cond = label.to(model.device) if label is not None else None
    bits = -model.log_prob(x.to(model.device), cond).double().cpu() * scale
    exact = -data.log_prob(x, label) * scale
    excess = bits - exact
    return {
        "excess_bits": excess.mean().item(),
        "excess_error": (excess.std() / len(x) ** 0.5).item(),
        "bits_per_sample": bits.mean().item(),
        "exact_bits_per_sample": exact.mean().item(),
    }


@fit(
    system="WaveNet", data="LibriSpeech",
    headline=Headline("van den Oord et al. 2016", arxiv="1609.03499", metric="MOS", value=4.21, where="Table 1"),
    space={"lr": "loguniform(1e-4,3e-3)"}, steps=500_000, batch=16, lr=1e-3, warmup=1000, ema=0.999, num_workers=4,
    grad_clip=1.0, save_every=5000, log_every=100,
)  # fmt: skip
def wavenet_librispeech(
    *, layers: int = 30, stacks: int = 3, residual: int = 128, skip: int = 256, length: int = 16_000,
    rate: int = 16_000, source: Location = "openslr/librispeech_asr"
) -> Fit:  # fmt: skip
    """WaveNet on speech at the paper's scale; needs GPUs.

    Waves of one second, 256 mu-law levels, without conditions, as in the paper's section 3.1 but for the speakers. The
    paper's own speech is not public; its opinion score is of text-to-speech, so it cannot be reached here.

    Args:
        layers: in all stacks together.
        stacks: in each, the dilation doubles from 1.
        residual: features of the layers.
        skip: features of the sum of skips.
        length: samples of a wave.
        rate: samples per second.
        source: a folder of WAV or parquet files, or a data set on the hub.
    """
    from datamodules.readers.audio import Audio
    from lightning_modules.autoregressive.wavenet import WaveNet

    model = WaveNet(length, layers=layers, stacks=stacks, residual=residual, skip=skip, rate=rate)
    return Fit(model, Audio(source, rate, length), bits_of_waves)


def bits_of_waves(model: WaveNet, data: Data) -> dict[str, float]:
    """Code length of 256 held-out waves in bits per sample."""
    x = data.test(256)["x"]
    bits = sum(model.bits_per_dim(part.to(model.device)).sum().item() for part in x.split(8))
    return {"bits_per_sample": bits / len(x)}
