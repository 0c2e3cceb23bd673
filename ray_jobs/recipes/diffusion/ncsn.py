"""Recipes of noise-conditional score networks."""

from __future__ import annotations

from ray_jobs.recipe import Claim, Fit, Headline, Location, fit
from ray_jobs.recipes.diffusion.shared import Backbone, against_mixture, image_net

PAPER = Headline("Song & Ermon 2019", arxiv="1907.05600")


@fit(
    system="NCSN", data="density2d", headline=PAPER, claim=Claim("component_share_error", at_most=0.05),
    space={"lr": "loguniform(3e-4,1e-2)", "width": "choice(64,128,256)"}, steps=3000, batch=1024, lr=3e-3, warmup=100,
    ema=0.998,
)  # fmt: skip
def ncsn_mixture2d(
    *, density: str = "ring", width: int = 64, depth: int = 3, levels: int = 10, repeats: int = 100
) -> Fit:
    """A score network on a mixture of Gaussians in the plane, sampled by annealed Langevin dynamics: every component in its share.

    Args:
        density: 'ring', 'grid' or 'pinwheel'.
        width: of the hidden layers.
        depth: residual blocks.
        levels: of noise.
        repeats: Langevin steps at each level.
    """
    from datamodules.labs.density2d import Density2D
    from lightning_modules.diffusion.models.ncsn import ncsn
    from lightning_modules.nets.mlp import ResidualMLP

    data = Density2D(name=density, mixture=True)
    net = ResidualMLP(data.shape, width=width, depth=depth)
    return Fit(ncsn(net, data.shape, levels=levels, repeats=repeats), data, against_mixture)  # type: ignore[arg-type]


@fit(
    system="NCSN", data="CIFAR-10",
    headline=Headline("Song & Ermon 2019", arxiv="1907.05600", metric="FID", value=25.32, where="Table 1"),
    space={"lr": "loguniform(3e-4,3e-3)"}, steps=200_000, batch=128, lr=1e-3, num_workers=4, save_every=5000,
    log_every=100,
)  # fmt: skip
def ncsn_cifar10(
    *, net: Backbone = "unet", width: int = 128, levels: int = 10, data_dir: Location = "", bf16: bool = False
) -> Fit:
    """A score network on CIFAR-10 at the paper's scale, with a U-Net in place of the paper's RefineNet; needs GPUs.

    Args:
        net: which network, a U-Net or a transformer over patches (DiT).
        width: channels of the U-Net at full resolution, twice as many below; a third of the features of a DiT.
        levels: of noise.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
        bf16: whether the network computes in bfloat16.
    """
    from datamodules.readers.images import Images
    from lightning_modules.diffusion.models.ncsn import ncsn

    images = Images(name="uoft-cs/cifar10", data_dir=data_dir)
    made = image_net(net, images, width, multiples=(1, 2, 2, 2), head=2 * width, bf16=bf16)
    return Fit(ncsn(made, images.shape, levels=levels), images)
