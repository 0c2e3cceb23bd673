"""WaveNet on speech at the paper's scale; needs GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe.plan import Fit, Headline

if TYPE_CHECKING:
    from datamodules.base import Data
    from lightning_modules.autoregressive.wavenet import WaveNet
    from lightning_modules.optim import Adam

system = "WaveNet"
data = "LibriSpeech"
headline = Headline("van den Oord et al. 2016", arxiv="1609.03499", metric="MOS", value=4.21, where="Table 1")
claim = None
space = {"lr": "loguniform(1e-4,3e-3)"}


def recipe(
    *,
    steps: int = 500_000,
    batch: int = 16,
    lr: float = 1e-3,
    warmup: int = 1000,
    layers: int = 30,
    stacks: int = 3,
    residual: int = 128,
    skip: int = 256,
    length: int = 16_000,
    rate: int = 16_000,
    source: str = "openslr/librispeech_asr",
    ema: float = 0.999,
    num_workers: int = 4,
) -> Fit:
    """WaveNet on waves of one second, 256 mu-law levels, without conditions, as in the paper's section 3.1 but for the speakers.

    The paper's own speech is not public; its opinion score is of text-to-speech, so it cannot be reached here.

    Args:
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam.
        warmup: steps over which it rises.
        layers: in all stacks together.
        stacks: in each, the dilation doubles from 1.
        residual: features of the layers.
        skip: features of the sum of skips.
        length: samples of a wave.
        rate: samples per second.
        source: a folder of WAV or parquet files, or a data set on the hub.
        ema: decay of the weights' average.
        num_workers: processes that read ahead.
    """
    from datamodules.readers.audio import Audio
    from lightning_modules.autoregressive.wavenet import WaveNet

    waves = Audio(source, rate, length, batch=batch, num_workers=num_workers)
    model = WaveNet(
        length, layers=layers, stacks=stacks, residual=residual, skip=skip, rate=rate, optim=Adam(lr, warmup=warmup)
    )
    return Fit(model, waves, steps, evaluate, ema=ema, grad_clip=1.0, save_every=5000, log_every=100)


def evaluate(model: WaveNet, data: Data) -> dict[str, float]:
    """Code length of 256 held-out waves in bits per sample."""
    x = data.test(256)["x"]
    bits = sum(model.bits_per_dim(part.to(model.device)).sum().item() for part in x.split(8))
    return {"bits_per_sample": bits / len(x)}
