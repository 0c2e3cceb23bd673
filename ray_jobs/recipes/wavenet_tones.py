"""WaveNet on tones of a Markov source: bits per sample above the exact entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe import Claim, Fit, Headline

if TYPE_CHECKING:
    from datamodules.tones import Tones
    from lightning_modules.autoregressive.wavenet import WaveNet

system = "WaveNet"
data = "tones"
headline = Headline("van den Oord et al. 2016", arxiv="1609.03499")
claim = Claim("excess_bits", at_most=0.03)
space = {"lr": "loguniform(5e-4,1e-2)", "residual": "choice(16,32,48)"}


def recipe(
    *,
    steps: int = 800,
    batch: int = 16,
    lr: float = 4e-3,
    layers: int = 6,
    stacks: int = 1,
    residual: int = 32,
    skip: int = 64,
    ema: float = 0.99,
) -> Fit:
    """WaveNet on waves of 256 samples and 64 mu-law levels, conditioned on one of three pitches.

    Args:
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam, after a warm-up of 50 steps.
        layers: in all stacks together.
        stacks: in each, the dilation doubles from 1.
        residual: features of the layers.
        skip: features of the sum of skips.
        ema: decay of the weights' average.
    """
    from datamodules.tones import Tones
    from lightning_modules.autoregressive.wavenet import WaveNet

    tones = Tones(batch)
    model = WaveNet(
        tones.shape[0],
        levels=tones.levels,
        layers=layers,
        stacks=stacks,
        residual=residual,
        skip=skip,
        classes=tones.classes,
        rate=tones.rate,
        lr=lr,
        warmup=50,
    )
    return Fit(model, tones, steps, evaluate, ema=ema, grad_clip=1.0)


def evaluate(model: WaveNet, data: Tones) -> dict[str, float]:
    """Bits per sample of 256 fresh waves, above the exact code length and in all; the source's entropy rate."""
    import math

    x, label = data.test(256).values()
    scale = 1 / (data.shape[0] * math.log(2))
    bits = -model.log_prob(x.to(model.device), label.to(model.device)).double().cpu() * scale
    excess = bits + data.log_prob(x, label) * scale
    return {
        "excess_bits": excess.mean().item(),
        "excess_error": (excess.std() / len(x) ** 0.5).item(),
        "bits_per_sample": bits.mean().item(),
        "entropy_rate": data.rate_of_entropy().mean().item(),
    }
