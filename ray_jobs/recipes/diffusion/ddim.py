"""Recipes of DDIM."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from ray_jobs.recipe import Claim, Fit, Headline, Location, fit
from ray_jobs.recipe.measures import measuring
from ray_jobs.recipes.diffusion.ddpm import bound, linear
from ray_jobs.recipes.diffusion.shared import Backbone, image_net

if TYPE_CHECKING:
    from datamodules.labs.gauss_image import GaussImage
    from lightning_modules.diffusion.models.ddim import DDIM

PAPER = Headline("Song et al. 2021", arxiv="2010.02502")
Spacing = Literal["spaced", "trailing", "quadratic"]


@fit(
    system="DDIM", data="gauss_image", headline=PAPER, claim=Claim("over_ancestral", at_most=0.5),
    space={"lr": "loguniform(3e-4,1e-2)", "width": "choice(64,128,256)"}, steps=3000, batch=512, lr=2e-3, warmup=100,
    ema=0.998,
)  # fmt: skip
def ddim_gauss_image(
    *,
    width: int = 128,
    depth: int = 2,
    levels: int = 200,
    size: int = 8,
    eta: float = 0.0,
    spacing: Spacing = "spaced",
    sample_steps: int = 50,
) -> Fit:
    """DDIM on a known Gaussian: samples of few steps beside those of DDPM's steps, and examples that come back from their latents.

    Args:
        width: of the hidden layers.
        depth: residual blocks.
        levels: noise levels in training.
        size: height and width of the images.
        eta: noise of the steps: 0 none, 1 that of DDPM.
        spacing: which levels are visited: 'spaced', 'trailing' or 'quadratic'.
        sample_steps: of the sampler.
    """
    from datamodules.labs.gauss_image import GaussImage
    from lightning_modules.diffusion.models.ddim import DDIM
    from lightning_modules.nets.mlp import ResidualMLP

    data = GaussImage(size=size)
    net = ResidualMLP(data.shape, width=width, depth=depth)
    model = DDIM(net, data.shape, levels=linear(levels), eta=eta, spacing=spacing, steps=min(sample_steps, levels))
    return Fit(model, data, in_few_steps)  # type: ignore[arg-type]


def in_few_steps(model: DDIM, data: GaussImage) -> dict[str, float]:
    """Samples by the number of their steps N, and the way to the latents and back.

    frechet_ratio_N: squared Frechet distance of 4,096 samples over that of true examples; ancestral_ratio_N: the same of DDPM's steps,
    whose variance is the posterior's, on the same levels. over_ancestral: the larger of the quotients of the two at 10 and 20 steps.
    reconstruction_N: mean squared error of examples that come back from their latents, over the variance of a pixel.
    """
    from lightning_modules.metrics.gaussian import frechet_floor, frechet_of
    from lightning_modules.metrics.likelihood import noise_excess

    rng, truth = measuring(), (data.mean, data.cov)
    floor = frechet_floor(lambda n, g: data.draw(n, g)["x"], truth, 4096)
    x = data.test(8192)["x"].to(model.device)
    excess, least = noise_excess(model.denoiser(), data.denoise, x, model.bound.levels, rng=rng)
    found = {"noise_excess": excess / least}
    counts = [n for n in (10, 20, 50, 100) if n <= len(model.bound.levels)]
    for n in counts:
        for name, sampler in (("frechet", None), ("ancestral", "ancestral")):
            drawn = model.sample(4096, rng=rng, steps=n, sampler=sampler, batch=4096).cpu()
            found[f"{name}_ratio_{n}"] = frechet_of(drawn, truth) / floor
        back = model.decode(model.encode(x[:1024], steps=n), steps=n)
        found[f"reconstruction_{n}"] = ((back - x[:1024]).square().mean() / data.cov.diagonal().mean()).item()
    quotients = [found[f"frechet_ratio_{n}"] / found[f"ancestral_ratio_{n}"] for n in counts[:2]]
    return found | {"over_ancestral": max(quotients)}


@fit(
    system="DDIM", data="CIFAR-10",
    headline=Headline("Song et al. 2021", arxiv="2010.02502", metric="FID", value=4.16, where="Table 1"),
    space={"lr": "loguniform(5e-5,1e-3)", "dropout": "uniform(0,0.3)"}, steps=800_000, batch=128, lr=2e-4, warmup=5000,
    ema=0.9999, num_workers=4, grad_clip=1.0, save_every=5000, log_every=100,
)  # fmt: skip
def ddim_cifar10(
    *,
    net: Backbone = "unet",
    width: int = 128,
    levels: int = 1000,
    eta: float = 0.0,
    spacing: Spacing = "quadratic",
    sample_steps: int = 100,
    dropout: float = 0.1,
    data_dir: Location = "",
    bf16: bool = False,
) -> Fit:
    """DDIM on CIFAR-10 at the paper's scale, whose number is of 100 steps without noise; needs GPUs.

    A finished run of `ddpm_cifar10` has the same network: `reprise sample RUN --sampler ddim --steps 100` draws from it, too.

    Args:
        net: which network, a U-Net or a transformer over patches (DiT).
        width: channels of the U-Net at full resolution, twice as many below; a third of the features of a DiT.
        levels: noise levels in training.
        eta: noise of the steps: 0 none, 1 that of DDPM.
        spacing: which levels are visited: 'spaced', 'trailing' or 'quadratic'.
        sample_steps: of the sampler; where quadratic ones come twice, there are fewer.
        dropout: in the blocks.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
        bf16: whether the network computes in bfloat16.
    """
    from datamodules.readers.images import Images
    from lightning_modules.diffusion.models.ddim import DDIM
    from lightning_modules.objectives import discretised_gaussian_log_prob

    images = Images(name="uoft-cs/cifar10", data_dir=data_dir)
    made = image_net(net, images, width, multiples=(1, 2, 2, 2), head=2 * width, dropout=dropout, bf16=bf16)
    decoder = partial(discretised_gaussian_log_prob, levels=images.levels)
    model = DDIM(
        made, images.shape, levels=linear(levels), eta=eta, spacing=spacing, steps=min(sample_steps, levels),
        decoder=decoder, clip=True,
    )  # fmt: skip
    return Fit(model, images, bound)
