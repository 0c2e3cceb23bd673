"""DDPM on 3x32x32 images of noise: a load for `benchmarks.ddp`, with nothing to learn."""

from ray_jobs.recipe.plan import Fit, Headline

system, data = "DDPM", "noise"
headline = Headline("Ho et al. 2020", arxiv="2006.11239")
claim = None


def recipe(*, steps: int = 10_000, batch: int = 32) -> Fit:
    """A U-Net of 2.5 million parameters.

    Args:
        steps: optimiser steps.
        batch: global batch, over all workers.
    """
    import torch

    from datamodules.base import Data, table
    from lightning_modules.diffusion import schedules
    from lightning_modules.diffusion.models.ddpm import ddpm
    from lightning_modules.nets.unet import UNet

    class Noise(Data):
        shape = (3, 32, 32)

        def setup(self, stage: str) -> None:
            self.source = table(x=torch.randn(512, *self.shape, generator=torch.Generator().manual_seed(0)))

    net = UNet(3, width=48, multiples=(1, 2, 2), blocks=1, attention=(2,), head=48)
    return Fit(ddpm(net, Noise.shape, levels=schedules.linear()), Noise(batch), steps, log_every=2)
