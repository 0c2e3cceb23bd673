"""Recipes of latent diffusion: an autoencoder, and then a diffusion of its latents, in one run or from a finished autoencoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe import Claim, Fit, Headline, Location, Variant, fit
from ray_jobs.recipe.captions import chance
from ray_jobs.recipe.measures import measuring
from ray_jobs.recipe.ranges import Count, Decay, Whole
from ray_jobs.recipes.vae import autoencoders
from ray_jobs.recipes.vae.autoencoders import PAPER, Kind
from ray_jobs.recipes.vae.latents import Kept, cache_latents, labelled, of_images, parts, staged

if TYPE_CHECKING:
    from torch import Tensor, nn

    from datamodules.base import Batch
    from datamodules.labs.gauss_image import GaussImage
    from datamodules.labs.shapes import Shapes
    from lightning_modules.conditions import Cond
    from lightning_modules.diffusion.denoising import Denoising
    from lightning_modules.staged import Staged
    from lightning_modules.vae.first_stage import FirstStage

STRENGTH = 2.0
"""w, at which guided samples are measured."""


# ---- a known Gaussian


@fit(
    system="Latent diffusion", data="gauss_image", headline=PAPER, claim=Claim("frechet_ratio", at_most=1.03),
    space={"lr": "loguniform(3e-4,1e-2)", "width": "choice(64,128,256)"}, steps=4000, batch=512, ema=0.998,
)  # fmt: skip
def ldm_gauss_image(
    *,
    steps: int,
    latents: Count = 16,
    width: int = 128,
    depth: int = 2,
    levels: Count = 200,
    size: int = 8,
    autoencoder_steps: Whole | None = None,
) -> Fit:
    """Latent diffusion of a known Gaussian with a linear autoencoder: how far both parts and the samples are from the best possible.

    Args:
        steps: of the autoencoder and of the diffusion.
        latents: of an image; those of the best linear autoencoder are the directions in which images vary most.
        width: of the hidden layers.
        depth: residual blocks.
        levels: noise levels in training.
        size: height and width of the images.
        autoencoder_steps: of the autoencoder, before the diffusion; None: a quarter.
    """
    from datamodules.labs.gauss_image import GaussImage
    from lightning_modules.nets.mlp import ResidualMLP
    from lightning_modules.optim import Adam
    from lightning_modules.vae.linear import linear_autoencoder

    data = GaussImage(size=size)
    first_steps = steps // 4 if autoencoder_steps is None else autoencoder_steps
    first = linear_autoencoder(data.shape, latents, optim=Adam(1e-2, decay_steps=first_steps))
    net = ResidualMLP((latents,), width=width, depth=depth)
    model = staged(
        first,
        net,
        first_steps=first_steps,
        steps=steps,
        levels=levels,
        sample_steps=min(100, levels),
        optim=Adam(2e-3, 100),
    )
    return Fit(model, data, against_components)  # type: ignore[arg-type]


def against_components(model: Staged, data: GaussImage) -> dict[str, float]:
    """Both parts and the samples against the directions in which the images vary most, which are known.

    mse_ratio: the autoencoder's squared error over the least that a linear one has. noise_excess: of the diffusion, against the exact
    denoiser of the autoencoder's latents. frechet: squared distance of 4,096 samples to the images' distribution; frechet_ratio: over
    that of true images without their other directions; frechet_least: the limit of that for many images.
    """
    import torch

    from lightning_modules.draws import Draws
    from lightning_modules.metrics.gaussian import frechet_floor, frechet_of, gaussian_denoiser
    from lightning_modules.metrics.likelihood import noise_excess
    from lightning_modules.vae.linear import PrincipalComponents

    first, prior = parts(model)
    truth, rng, draws = (data.mean, data.cov), measuring(), Draws(measuring().initial_seed())
    best = PrincipalComponents(*truth, first.latents[0], data.shape)
    x = data.test(8192)["x"].to(model.device)
    with torch.no_grad():
        z = prior.space.encode(x, draws)
        error = (first.decode(first.encode(x, draws)) - x).square().flatten(1).sum(1).mean().item()
        exact = gaussian_denoiser(*(m.to(model.device) for m in law_of_latents(first, prior, data)))
    excess, floor = noise_excess(prior.denoiser(), exact, z, prior.bound.levels, rng=rng)
    distance = frechet_of(prior.sample(4096, rng=rng, batch=4096).cpu(), truth)

    def without_the_others(n: int, g: torch.Generator) -> Tensor:
        return best.decode(best.moments(data.draw(n, g)["x"]))

    return {
        "mse_ratio": error / best.discarded,
        "noise_excess": excess / floor,
        "frechet": distance,
        "frechet_least": best.discarded,
        "frechet_ratio": distance / frechet_floor(without_the_others, truth, 4096),
    }


def law_of_latents(first: FirstStage, prior: Denoising, data: GaussImage) -> tuple[Tensor, Tensor]:
    """Mean [k] and covariance [k, k], float64 on the CPU, of the scaled latents of a linear encoder, whose posterior is narrow."""
    layer, k = first.encoder[1], first.latents[0]  # type: ignore[index]
    weight, bias = (p.detach().cpu().double()[:k] for p in (layer.weight, layer.bias))
    scale = prior.space.scale.cpu().double()  # type: ignore[attr-defined]
    return scale * (weight @ data.mean + bias), scale**2 * weight @ data.cov @ weight.T


# ---- shapes


def of_captions(batch: Batch) -> Cond:
    """The words of captions of shapes, each as one of the vocabulary; their order does not matter, for each word has one role."""
    from torch.nn import functional as F

    from datamodules.labs.shapes import WORDS
    from lightning_modules.conditions import Cond

    return Cond(text=F.one_hot(batch["caption"], len(WORDS)).float())


@fit(
    system="Latent diffusion", data="shapes", headline=PAPER,
    space={"lr": "loguniform(3e-4,1e-2)"}, steps=4000, batch=32, ema=0.995, grad_clip=1.0,
    variants={"vq": Variant("shapes", None, {"kind": "vq"})},
    needs={"autoencoder": "autoencoder_shapes"},
)  # fmt: skip
def ldm_shapes(
    *,
    steps: int,
    kind: Kind = "kl",
    autoencoder_width: int = 48,
    codes: Count = 512,
    width: int = 48,
    drop: Decay = 0.1,
    levels: Count = 1000,
    sample_steps: Count = 50,
    autoencoder_steps: Whole | None = None,
) -> Fit:
    """Latent diffusion of pictures of shapes by their captions, whose words the network attends to.

    It measures what is read from reconstructions and from samples, and how many codes of a codebook are used; it makes no claim yet.

    Args:
        steps: of the autoencoder and of the diffusion.
        kind: the autoencoder: 'kl' with Gaussian latents, or 'vq' with a codebook.
        autoencoder_width: channels of the autoencoder.
        codes: in the codebook of 'vq'.
        width: channels of the diffusion's U-Net.
        drop: share of the captions that are hidden in training, for guidance.
        levels: noise levels in training.
        sample_steps: of the sampler.
        autoencoder_steps: of the autoencoder, before the diffusion; None: half; 0 with --start autoencoder=RUN.
    """
    from datamodules.labs.shapes import WORDS, Shapes
    from lightning_modules.nets.unet import UNet
    from lightning_modules.optim import Adam

    data = Shapes()
    first = autoencoders.shapes_stage(kind, autoencoder_width, codes, Adam(3e-3, 100))
    net = UNet(
        first.latents[0], width=width, multiples=(1,), blocks=2, attention=(0,), head=width // 2, text=len(WORDS)
    )
    model = staged(
        first, net, first_steps=steps // 2 if autoencoder_steps is None else autoencoder_steps, steps=steps, levels=levels,
        sample_steps=min(sample_steps, levels), optim=Adam(2e-3, 100), conditions=of_captions,
        hide={"text": drop} if drop else {},
    )  # fmt: skip
    return Fit(model, data, of_captioned)  # type: ignore[arg-type]


def of_captioned(model: Staged, data: Shapes, *, n: int = 256) -> dict[str, float]:
    """caption_right: share of samples, guided where captions were hidden, of which all attributes are read as their captions say.

    caption_chance: what pictures reach that do not follow captions. And `autoencoders.of_shapes` of the first stage.
    """
    from datamodules.labs.shapes import caption, read

    first, prior = parts(model)
    batch = data.test(n)
    drawn = prior.sample(len(batch["x"]), of_captions(batch), rng=measuring(), guidance=STRENGTH if prior.hide else 0.0)
    seen = caption(read(drawn.clamp(-1, 1)).attributes, data.side)
    right = (seen == batch["caption"]).all(1).double().mean().item()
    by_chance = chance(data.side)["accuracy_chance"]
    return {"caption_right": right, "caption_chance": by_chance} | autoencoders.of_shapes(first, data)


# ---- real images


@fit(
    system="Latent diffusion", data="Fashion-MNIST", headline=PAPER, space={"lr": "loguniform(3e-4,3e-3)"}, steps=12_000,
    batch=64, ema=0.999, grad_clip=1.0, needs={"autoencoder": "autoencoder"},
)  # fmt: skip
def ldm_fashion(
    *,
    steps: int,
    kind: Kind = "kl",
    autoencoder_width: int = 32,
    codes: Count = 512,
    width: int = 64,
    drop: Decay = 0.1,
    levels: Count = 1000,
    sample_steps: Count = 100,
    size: int = 32,
    autoencoder_steps: Whole | None = None,
    cache: Location = "",
    cache_dtype: Kept = "float32",
    data_dir: Location = "",
    bf16: bool = False,
) -> Fit:
    """Latent diffusion of Fashion-MNIST by its labels, from 32x32 pixels to 8x8 latents: an hour on a CPU, minutes on a GPU.

    Args:
        steps: of the autoencoder and of the diffusion.
        kind: the autoencoder: 'kl' with Gaussian latents, or 'vq' with a codebook.
        autoencoder_width: channels of the autoencoder at full resolution, twice as many below.
        codes: in the codebook of 'vq'.
        width: channels of the diffusion's U-Net at full resolution of the latents, twice as many below.
        drop: share of the labels that are hidden in training, for guidance; 0: a model without labels.
        levels: noise levels in training.
        sample_steps: of the sampler.
        size: height and width to which the images are brought, 32 or 64.
        autoencoder_steps: of the autoencoder, before the diffusion; None: a third; 0 with --start autoencoder=RUN.
        cache: folder for the latents of a finished autoencoder; '' computes them at every step.
        cache_dtype: of the numbers in that folder.
        data_dir: folder of the four IDX files, or of parquet files with the columns image and label; '' takes the hub.
        bf16: whether the diffusion's network computes in bfloat16.
    """
    from datamodules.readers.images import Images

    images = Images(name="zalando-datasets/fashion_mnist", data_dir=data_dir, size=size, resize=True, in_memory=True)
    first = autoencoders.own_stage(images, kind, autoencoder_width, codes, 1e-6, "")
    return of_images(
        first, images, steps=steps, width=width, drop=drop, levels=levels, sample_steps=sample_steps, folder=cache,
        autoencoder_steps=autoencoder_steps, dtype=cache_dtype, bf16=bf16,
    )  # fmt: skip


@fit(
    system="Latent diffusion", data="ImageNet, 256x256",
    headline=Headline("Rombach et al. 2022", arxiv="2112.10752", metric="FID", value=3.60, where="LDM-4-G"),
    space={"lr": "loguniform(2e-5,5e-4)"}, steps=428_000, batch=1200, ema=0.9999, num_workers=8, save_every=5000,
    log_every=100, needs={"autoencoder": "vq_f4"},
)  # fmt: skip
def ldm_imagenet256(
    *,
    steps: int,
    autoencoder_steps: Whole = 250_000,
    autoencoder_width: int = 128,
    width: int = 192,
    drop: Decay = 0.1,
    levels: Count = 1000,
    sample_steps: Count = 250,
    size: int = 256,
    cache: Location = "",
    cache_dtype: Kept = "float16",
    data_dir: Location = "",
    bf16: bool = False,
) -> Fit:
    """LDM-4 of ImageNet at the paper's scale: a VQ autoencoder to 64x64 latents, and a diffusion by class tokens; needs GPUs.

    The paper starts from an autoencoder with a discriminator: `--autoencoder_steps 0 --start autoencoder=RUN` takes it from a run of
    vq_f4. Its number is of 250 steps and a scale of 1.5: `reprise sample RUN --guidance 0.5 --label 0,1,2`.

    Args:
        steps: of the autoencoder and of the diffusion, which takes 178,000.
        autoencoder_steps: of the autoencoder, before the diffusion; 0 with --start autoencoder=RUN.
        autoencoder_width: channels of the autoencoder at full resolution.
        width: channels of the diffusion's U-Net at full resolution of the latents.
        drop: share of the labels that are hidden in training, for guidance.
        levels: noise levels in training.
        sample_steps: of the sampler.
        size: height and width of the images.
        cache: folder for the latents of a finished autoencoder; '' computes them at every step.
        cache_dtype: of the numbers in that folder.
        data_dir: local folder of parquet files with the columns image and label; '' takes the hub.
        bf16: whether the diffusion's network computes in bfloat16.
    """
    from lightning_modules.optim import AdamW

    images = autoencoders.imagenet(size, data_dir)
    first = autoencoders.imagenet_stage("vq", autoencoder_width, "", AdamW(3e-4, betas=(0.5, 0.9)), size)
    net = imagenet_net(first, width, images.classes if drop else 0, bf16)
    model = staged(
        first, net, first_steps=autoencoder_steps, steps=steps, levels=levels, sample_steps=min(sample_steps, levels),
        rescale=False, optim=AdamW(1e-4, 10_000, weight_decay=0.01), **labelled(drop),
    )  # fmt: skip
    cache_latents(model, images, cache, cache_dtype)
    return Fit(model, images)


def imagenet_net(first: FirstStage, width: int, classes: int, bf16: bool = False) -> nn.Module:
    """The paper's U-Net of the latents of ImageNet, with a token of the class."""
    from lightning_modules.nets.unet import UNet

    return UNet(
        first.latents[0], width=width, multiples=(1, 2, 3, 5), blocks=2, attention=(1, 2, 3), head=min(32, width),
        classes=classes, label_token=bool(classes), bf16=bf16,
    )  # fmt: skip


# ---- a user's images


@fit(
    system="Latent diffusion", headline=PAPER, needs={"autoencoder": "autoencoder"}, data="", steps=40_000, batch=32, ema=0.999,
    grad_clip=1.0, log_every=50,
)  # fmt: skip
def ldm(
    *,
    steps: int,
    data: Location = "",
    size: int = 0,
    kind: Kind = "kl",
    autoencoder_width: int = 64,
    codes: Count = 1024,
    width: int = 96,
    drop: Decay = 0.0,
    levels: Count = 1000,
    sample_steps: Count = 100,
    autoencoder_steps: Whole | None = None,
    cache: Location = "",
    cache_dtype: Kept = "float32",
) -> Fit:
    """Latent diffusion on images: an autoencoder to a quarter of their sides, and then a diffusion of its latents.

    `--autoencoder_steps 0 --start autoencoder=RUN` takes the autoencoder from a finished run of `autoencoder`.

    Args:
        steps: of the autoencoder and of the diffusion.
        data: a folder of images, or the name of a set.
        size: height and width of the images.
        kind: the autoencoder: 'kl' with Gaussian latents, or 'vq' with a codebook.
        autoencoder_width: channels of the autoencoder at full resolution, twice as many below.
        codes: in the codebook of 'vq'.
        width: channels of the diffusion's U-Net at full resolution of the latents, twice as many below.
        drop: share of the labels that are hidden in training, so that samples can be guided by labels; 0: a model without labels.
        levels: noise levels in training.
        sample_steps: of the sampler.
        autoencoder_steps: of the autoencoder, before the diffusion; None: a third; 0 with --start autoencoder=RUN.
        cache: folder for the latents of a finished autoencoder; '' computes them at every step.
        cache_dtype: of the numbers in that folder.
    """
    from ray_jobs.recipes.diffusion.own_data import opened

    found = opened(data, size, drop)
    first = autoencoders.own_stage(found, kind, autoencoder_width, codes, 1e-6, "")
    return of_images(
        first, found, steps=steps, width=width, drop=drop, levels=levels, sample_steps=sample_steps,
        autoencoder_steps=autoencoder_steps, folder=cache, dtype=cache_dtype,
    )  # fmt: skip
