"""DDPM on 3x32x32 images of noise: a load for `benchmarks.ddp`, with nothing to learn."""

from ray_jobs.recipe import Fit, Headline, fit


@fit(
    system="DDPM",
    data="noise",
    headline=Headline("Ho et al. 2020", arxiv="2006.11239"),
    steps=10_000,
    batch=32,
    log_every=2,
)
def images32() -> Fit:
    """A U-Net of 2.5 million parameters."""
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
    return Fit(ddpm(net, Noise.shape, levels=schedules.linear()), Noise(batch=32))
