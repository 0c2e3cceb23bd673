"""WaveNet on speech at the paper's scale; needs GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe import Fit, Headline, Location, fit

if TYPE_CHECKING:
    from datamodules.base import Data
    from lightning_modules.autoregressive.wavenet import WaveNet


@fit(
    system="WaveNet",
    data="LibriSpeech",
    headline=Headline("van den Oord et al. 2016", arxiv="1609.03499", metric="MOS", value=4.21, where="Table 1"),
    space={"lr": "loguniform(1e-4,3e-3)"},
    steps=500_000,
    batch=16,
    lr=1e-3,
    warmup=1000,
    ema=0.999,
    num_workers=4,
    grad_clip=1.0,
    save_every=5000,
    log_every=100,
)
def wavenet_librispeech(
    *,
    batch: int,
    lr: float,
    warmup: int,
    num_workers: int,
    layers: int = 30,
    stacks: int = 3,
    residual: int = 128,
    skip: int = 256,
    length: int = 16_000,
    rate: int = 16_000,
    source: Location = "openslr/librispeech_asr",
) -> Fit:
    """WaveNet on speech at the paper's scale; needs GPUs.

    WaveNet on waves of one second, 256 mu-law levels, without conditions, as in the paper's section 3.1 but for the
    speakers. The paper's own speech is not public; its opinion score is of text-to-speech, so it cannot be reached here.

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

    waves = Audio(source, rate, length, batch=batch, num_workers=num_workers)
    model = WaveNet(length, layers=layers, stacks=stacks, residual=residual, skip=skip, rate=rate, lr=lr, warmup=warmup)
    return Fit(model, waves, evaluate)


def evaluate(model: WaveNet, data: Data) -> dict[str, float]:
    """Code length of 256 held-out waves in bits per sample."""
    x = data.test(256)["x"]
    bits = sum(model.bits_per_dim(part.to(model.device)).sum().item() for part in x.split(8))
    return {"bits_per_sample": bits / len(x)}
