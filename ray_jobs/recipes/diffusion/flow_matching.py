"""Recipes of flow matching and rectified flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe import Claim, Fit, Headline, Location, Variant, fit
from ray_jobs.recipe.measures import measuring
from ray_jobs.recipe.ranges import Share
from ray_jobs.recipes.diffusion.shared import Backbone, against_mixture, image_net, w2_ratios

if TYPE_CHECKING:
    import torch

    from datamodules.labs.density2d import Density2D
    from lightning_modules.diffusion.denoising import Denoising
    from lightning_modules.staged import Staged

LIPMAN = Headline("Lipman et al. 2023", arxiv="2210.02747")
TONG = Headline("Tong et al. 2024", arxiv="2302.00482")
GENG = Headline("Geng et al. 2025", arxiv="2505.13447")
LIU = Headline("Liu et al. 2023", arxiv="2209.03003")


@fit(
    system="Flow matching", data="density2d", headline=LIPMAN, claim=Claim("noise_excess", at_most=0.05),
    space={"lr": "loguniform(3e-4,1e-2)", "width": "choice(64,128,256)"}, steps=3000, batch=1024, lr=3e-3, warmup=100,
    ema=0.998,
    variants={
        "transport": Variant("density2d", Claim("curvature", at_most=0.1), {"transport": True, "batch": 256}, TONG),
    },
)  # fmt: skip
def flow_mixture2d(*, density: str = "ring", width: int = 64, depth: int = 3, transport: bool = False) -> Fit:
    """Flow matching on a mixture of Gaussians in the plane: the learned score against the exact one, and how bent the paths are.

    Args:
        density: 'ring', 'grid' or 'pinwheel'.
        width: of the hidden layers.
        depth: residual blocks.
        transport: whether noise is paired with examples by optimal transport within each global batch.
    """
    from datamodules.labs.density2d import Density2D
    from datamodules.transport import Transported
    from lightning_modules.diffusion import coupling
    from lightning_modules.diffusion.models.flow_matching import flow_matching
    from lightning_modules.nets.mlp import ResidualMLP

    data = Density2D(name=density, mixture=True)
    data.paired = Transported if transport else None
    net = ResidualMLP(data.shape, width=width, depth=depth)
    couple = coupling.given if transport else coupling.independent
    return Fit(flow_matching(net, data.shape, couple=couple), data, straightness)  # type: ignore[arg-type]


def straightness(model: Denoising, data: Density2D) -> dict[str, float]:
    """As `against_mixture`; how bent the paths are, and the distance to the data of samples of one step and of four.

    curvature: mean length of a path over the distance of its ends, less 1. w2_ratio_1, w2_ratio_4: see `w2_ratios`.
    """

    rng = measuring()
    _, ratios = w2_ratios(dict.fromkeys((1, 4), model), data, rng)
    return against_mixture(model, data) | {"curvature": curvature(model, rng)} | ratios


def curvature(model: Denoising, rng: torch.Generator, *, n: int = 2048, steps: int = 100) -> float:
    """Mean length of n paths x_t, followed in Euler steps, over the distance of their ends, less 1."""
    import torch

    from lightning_modules.diffusion.models.flow_matching import straight
    from lightning_modules.diffusion.samplers import chain
    from lightning_modules.diffusion.samplers.ddim import ddim

    grid = straight(steps)
    y = chain.start(torch.empty(n, *model.shape, device=model.device), grid, data_std=0.0, rng=rng)
    points = [y / (1 + grid[0])]
    for k in range(steps):
        y = ddim(model.denoiser(), y, grid[k : k + 2])
        points.append(y / (1 + grid[k + 1]))
    path = torch.stack(points).flatten(2)
    length = path.diff(dim=0).norm(dim=2).sum(0)
    return (length / (path[-1] - path[0]).norm(dim=1)).mean().item() - 1


@fit(
    system="Rectified flow", data="density2d", headline=LIU, claim=Claim("w2_ratio_1", at_most=1.5),
    space={"lr": "loguniform(3e-4,1e-2)", "width": "choice(64,128,256)"}, steps=6000, batch=1024, lr=3e-3, warmup=100,
    ema=0.998,
)  # fmt: skip
def reflow_mixture2d(*, steps: int, density: str = "ring", width: int = 64, depth: int = 3, path: int = 50) -> Fit:
    """A flow on a mixture of Gaussians in the plane, then the flow of its pairs (reflow), which draws in one step.

    Args:
        steps: half for the first flow, half for the second.
        density: 'ring', 'grid' or 'pinwheel'.
        width: of the hidden layers.
        depth: residual blocks.
        path: Euler steps in which the first flow makes a pair.
    """
    from datamodules.labs.density2d import Density2D
    from lightning_modules.diffusion.coupling import reflow
    from lightning_modules.diffusion.models.flow_matching import flow_matching, straight
    from lightning_modules.nets.mlp import ResidualMLP
    from lightning_modules.staged import Stage, Staged, copy_weights

    data = Density2D(name=density, mixture=True)
    first, second = (
        ResidualMLP(data.shape, width=width, depth=depth),
        ResidualMLP(data.shape, width=width, depth=depth),
    )
    flow = flow_matching(first, data.shape)
    again = flow_matching(second, data.shape, couple=reflow(flow.denoiser, straight(path)), steps=1)
    copy = copy_weights(("flow.net", "reflow.net"))
    stages = (Stage("flow", flow, steps // 2, copy), Stage("reflow", again, steps - steps // 2))
    return Fit(Staged(stages), data, of_the_last)  # type: ignore[arg-type]


def of_the_last(model: Staged, data: Density2D) -> dict[str, float]:
    """What `straightness` measures, of the last flow; its noise is not compared, since its pairs are not those of the data."""
    found = straightness(model.last, data)  # type: ignore[arg-type]
    return {name: value for name, value in found.items() if name != "noise_excess"}


@fit(
    system="MeanFlow", data="density2d", headline=GENG, claim=Claim("w2_ratio_1", at_most=1.5),
    space={"lr": "loguniform(3e-4,1e-2)", "width": "choice(64,128,256)"}, steps=6000, batch=1024, lr=2e-3, warmup=100,
    ema=0.998,
)  # fmt: skip
def meanflow_mixture2d(*, density: str = "ring", width: int = 64, depth: int = 3, apart: Share = 0.75) -> Fit:
    """MeanFlow on a mixture of Gaussians in the plane, which draws in one step: samples against the data, the score against the exact one.

    Args:
        density: 'ring', 'grid' or 'pinwheel'.
        width: of the hidden layers.
        depth: residual blocks.
        apart: share of the examples that learn a mean velocity; the others learn the velocity at one time.
    """
    from datamodules.labs.density2d import Density2D
    from lightning_modules.diffusion.models.mean_flow import MeanFlow
    from lightning_modules.nets.mlp import ResidualMLP

    data = Density2D(name=density, mixture=True)
    net = ResidualMLP(data.shape, width=width, depth=depth, numbers=1)
    return Fit(MeanFlow(net, data.shape, mean=0.0, std=1.5, apart=apart), data, straightness)  # type: ignore[arg-type]


@fit(
    system="Flow matching", data="CIFAR-10",
    headline=Headline("Tong et al. 2024", arxiv="2302.00482", metric="FID", value=3.5),
    space={"lr": "loguniform(5e-5,1e-3)", "dropout": "uniform(0,0.3)"}, steps=400_000, batch=128, lr=2e-4, warmup=5000,
    ema=0.9999, num_workers=4, grad_clip=1.0, save_every=5000, log_every=100,
)  # fmt: skip
def flow_cifar10(
    *,
    net: Backbone = "unet",
    width: int = 128,
    dropout: float = 0.1,
    transport: bool = True,
    data_dir: Location = "",
    bf16: bool = False,
) -> Fit:
    """Flow matching on CIFAR-10 at the paper's scale; needs GPUs.

    Args:
        net: which network, a U-Net or a transformer over patches (DiT).
        width: channels of the U-Net at full resolution, twice as many below; a third of the features of a DiT.
        dropout: in the blocks.
        transport: whether noise is paired with images by optimal transport within each global batch.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
        bf16: whether the network computes in bfloat16.
    """
    from datamodules.readers.images import Images
    from datamodules.transport import Transported
    from lightning_modules.diffusion import coupling
    from lightning_modules.diffusion.models.flow_matching import flow_matching

    images = Images(name="uoft-cs/cifar10", data_dir=data_dir)
    made = image_net(net, images, width, multiples=(1, 2, 2, 2), dropout=dropout, bf16=bf16)
    couple = coupling.given if transport else coupling.independent
    images.paired = Transported if transport else None
    return Fit(flow_matching(made, images.shape, couple=couple, steps=100), images)
