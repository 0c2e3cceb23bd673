"""Autoencoders as first stages of latent diffusion: on shapes, on ImageNet, and on a user's data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ray_jobs.recipe import Fit, Headline, Location, UsageError, Variant, fit
from ray_jobs.recipe.measures import measuring
from ray_jobs.recipe.ranges import Count, NotNegative, Whole

if TYPE_CHECKING:
    from torch import Tensor

    from datamodules.base import Data
    from datamodules.labs.shapes import Shapes
    from lightning_modules.model import Generative
    from lightning_modules.optim import Optim
    from lightning_modules.vae.first_stage import FirstStage

PAPER = Headline("Rombach et al. 2022", arxiv="2112.10752")
Kind = Literal["kl", "vq"]
"""Gaussian latents, or latents that are replaced by codes."""
PerceptualNet = Literal["", "efficientnet_lite0"]
"""The network of a perceptual distance; '' for none."""


def first_stage(
    shape: tuple[int, ...],
    kind: Kind,
    *,
    channels: int,
    width: int,
    multiples: tuple[int, ...],
    blocks: int = 2,
    attention: bool = True,
    patch: int = 1,
    codes: int = 256,
    patience: int = 100,
    kl_weight: float = 1e-6,
    perceptual: PerceptualNet = "",
    optim: Optim | None = None,
) -> FirstStage:
    """A convolutional autoencoder of images of a shape (C, H, W).

    Args:
        kind: which one.
        channels: of the latents.
        width, multiples, blocks, attention, patch: of encoder and decoder, see `convolutional.Encoder`.
        codes: in the codebook of 'vq'.
        patience: steps after which codes that were not used restart.
        kl_weight: of the divergence of 'kl'.
        perceptual: the network of a perceptual distance.
        optim: of all weights; None: Adam.

    Raises:
        ValueError: the images cannot be halved so often.
    """
    from lightning_modules.nets.patches import check_size
    from lightning_modules.optim import Adam
    from lightning_modules.vae.autoencoder_kl import AutoencoderKL
    from lightning_modules.vae.autoencoder_vq import AutoencoderVQ
    from lightning_modules.vae.convolutional import Decoder, Encoder

    sizes: dict[str, Any] = {
        "width": width, "multiples": multiples, "blocks": blocks, "attention": attention, "patch": patch
    }  # fmt: skip
    encoder = Encoder(shape[0], 2 * channels if kind == "kl" else channels, **sizes)
    decoder, factor = Decoder(shape[0], channels, **sizes), encoder.factor
    check_size(shape, shape[0], factor, f"This autoencoder shrinks images {factor} times")
    latents = (channels, shape[1] // factor, shape[2] // factor)
    common: dict[str, Any] = {"optim": optim or Adam(), "perceptual": distance_of(perceptual)}
    if kind == "vq":
        return AutoencoderVQ(encoder, decoder, shape, latents, codes=codes, patience=patience, **common)
    return AutoencoderKL(encoder, decoder, shape, latents, kl_weight=kl_weight, **common)


def distance_of(perceptual: PerceptualNet) -> Any:
    """The perceptual distance of this name; None for none."""
    if not perceptual:
        return None
    from lightning_modules.vae.perceptual import Perceptual

    return Perceptual()


def judged(
    first: FirstStage, start: int | None, *, width: int = 64, halvings: int = 3, optim: Optim | None = None
) -> Generative:
    """The autoencoder with a discriminator that trains from the step `start` on; the autoencoder alone where it is None.

    Args:
        width: channels of the discriminator at half the resolution.
        halvings: of the image, by the discriminator.
        optim: of each of the two networks; None: the autoencoder's own.
    """
    if start is None:
        return first
    from lightning_modules.gan.adversarial_autoencoder import AdversarialAutoencoder
    from lightning_modules.gan.patch_gan import PatchDiscriminator

    discriminator = PatchDiscriminator(first.shape[0], width=width, halvings=halvings)
    return AdversarialAutoencoder(first, discriminator, start=start, optim=optim or first.optim)


def autoencoder_in(model: Generative) -> FirstStage:
    """The autoencoder, whether a discriminator judges it or not."""
    return getattr(model, "generator", model)  # type: ignore[return-value]


def reconstructed(first: FirstStage, x: Tensor) -> Tensor:
    """Decoded latents of images [N, *shape], on the CPU."""
    import torch

    from lightning_modules.draws import Draws

    draws = Draws(measuring().initial_seed())
    return torch.cat([first.decode(first.encode(part.to(first.device), draws)).cpu() for part in x.split(64)])


def of_reconstructions(model: Generative, data: Data) -> dict[str, float]:
    """reconstruction: mean absolute error of at most 2,048 held-out images in [-1, 1]; psnr: in decibels. And `of_codes`."""
    import math

    first, x = autoencoder_in(model), data.test(2048)["x"].cpu()
    made = reconstructed(first, x).clamp(-1, 1)
    error = (made - x).square().mean().item()
    found = {"reconstruction": (made - x).abs().mean().item(), "psnr": 10 * math.log10(4 / max(error, 1e-12))}
    return found | of_codes(first, x)


def of_codes(first: FirstStage, x: Tensor) -> dict[str, float]:
    """Of a codebook: the share of the codes that images [N, *shape] use, and their perplexity over the number of codes."""
    import torch

    from lightning_modules.vae.autoencoder_vq import AutoencoderVQ, perplexity

    if not isinstance(first, AutoencoderVQ):
        return {}
    codes = len(first.codebook)
    index = torch.cat(
        [first.quantise(first.moments(part.to(first.device))).index.flatten().cpu() for part in x.split(64)]
    )
    counts = torch.bincount(index, minlength=codes).double()
    return {"codes_used": (counts > 0).double().mean().item(), "perplexity_share": perplexity(counts).item() / codes}


def of_shapes(model: Generative, data: Shapes) -> dict[str, float]:
    """attributes_right: share of reconstructions of which all six attributes are read as they are. And `of_reconstructions`."""
    import torch

    from datamodules.labs.shapes import read

    batch = data.test(1024)
    seen = torch.stack(read(reconstructed(autoencoder_in(model), batch["x"])).attributes, 1)
    right = (seen == batch["attributes"]).all(1).double().mean().item()
    return {"attributes_right": right} | of_reconstructions(model, data)


def shapes_stage(kind: Kind, width: int, codes: int, optim: Optim | None = None, kl_weight: float = 1e-6) -> FirstStage:
    """The first stage of pictures of shapes: 32x32 pixels to 8x8 latents of 4 channels.

    Codes restart soon: with a patience of 100 steps, one training drew all latents together and left the shapes out.
    """
    return first_stage(
        (3, 32, 32), kind, channels=4, width=width, multiples=(1,), blocks=1, attention=False, patch=4, codes=codes,
        patience=10, kl_weight=kl_weight, optim=optim,
    )  # fmt: skip


@fit(
    system="KL autoencoder", data="shapes", headline=PAPER, space={"lr": "loguniform(3e-4,1e-2)"}, steps=1500, batch=32,
    lr=3e-3, warmup=100, ema=0.99, grad_clip=1.0,
    variants={
        "vq": Variant("shapes", None, {"kind": "vq"}),
        "adversarial": Variant("shapes", None, {"adversarial_from": 1000}),
    },
)  # fmt: skip
def autoencoder_shapes(
    *,
    kind: Kind = "kl",
    width: int = 48,
    codes: Count = 512,
    kl_weight: NotNegative = 1e-6,
    adversarial_from: Whole | None = None,
) -> Fit:
    """An autoencoder of pictures of shapes, from 32x32 pixels to 8x8 latents; `ldm_shapes` can start from its run.

    Args:
        kind: 'kl' with Gaussian latents, or 'vq' with a codebook.
        width: channels.
        codes: in the codebook of 'vq'.
        kl_weight: of the divergence of 'kl'.
        adversarial_from: step from which a discriminator of patches trains, too; None: no discriminator.
    """
    from datamodules.labs.shapes import Shapes

    first = shapes_stage(kind, width, codes, kl_weight=kl_weight)
    return Fit(judged(first, adversarial_from, width=16, halvings=2), Shapes(), of_shapes)  # type: ignore[arg-type]


SCALE: dict[str, Any] = {"num_workers": 8, "save_every": 5000, "log_every": 100}
"""Options of the recipes at the paper's scale."""


def paper_optim(batch: int) -> Optim:
    """Adam at 4.5e-6 for each example of the global batch, as in the authors' code."""
    from lightning_modules.optim import Adam

    return Adam(4.5e-6 * batch, betas=(0.5, 0.9))


def imagenet_stage(
    kind: Kind, width: int, perceptual: PerceptualNet, optim: Optim | None, size: int = 256
) -> FirstStage:
    """The paper's first stage of ImageNet: KL with f = 8 and 4 channels, or VQ with f = 4 and 8,192 codes of 3."""
    shape = (3, size, size)
    if kind == "kl":
        return first_stage(
            shape, kind, channels=4, width=width, multiples=(1, 2, 4, 4), perceptual=perceptual, optim=optim
        )
    return first_stage(
        shape, kind, channels=3, width=width, multiples=(1, 2, 4), codes=8192, perceptual=perceptual, optim=optim
    )


def imagenet(size: int, data_dir: str) -> Any:
    """ImageNet in squares of this side."""
    from datamodules.readers.images import Images

    return Images(name="ILSVRC/imagenet-1k", data_dir=data_dir, size=size)


@fit(
    system="KL autoencoder", data="ImageNet, 256x256",
    headline=Headline("Rombach et al. 2022", arxiv="2112.10752", metric="rFID", value=0.90, where="the authors' README"),
    space={"lr": "loguniform(1e-4,1e-3)"}, steps=250_000, batch=96, **SCALE,
)  # fmt: skip
def kl_f8(
    *,
    batch: int,
    width: int = 128,
    size: int = 256,
    adversarial_from: Whole | None = 50_000,
    perceptual: PerceptualNet = "",
    data_dir: Location = "",
) -> Fit:
    """The KL autoencoder of 256x256 pixels to 32x32 latents, at the paper's scale, with a discriminator; needs GPUs.

    The authors trained theirs on OpenImages, with a perceptual distance by VGG.

    Args:
        batch: the rate grows with it.
        width: channels at full resolution.
        size: height and width of the images.
        adversarial_from: step from which the discriminator trains, too; None: no discriminator.
        perceptual: network of a perceptual distance, of an installed package; '' for none.
        data_dir: local folder of parquet files with the columns image and label; '' takes the hub.
    """
    first = imagenet_stage("kl", width, perceptual, paper_optim(batch), size)
    return Fit(judged(first, adversarial_from), imagenet(size, data_dir), of_reconstructions)


@fit(
    system="VQ autoencoder", data="ImageNet, 256x256",
    headline=Headline("Rombach et al. 2022", arxiv="2112.10752", metric="rFID", value=0.58, where="the authors' README"),
    space={"lr": "loguniform(1e-5,1e-3)"}, steps=250_000, batch=64, **SCALE,
)  # fmt: skip
def vq_f4(
    *,
    batch: int,
    width: int = 128,
    size: int = 256,
    adversarial_from: Whole | None = 0,
    perceptual: PerceptualNet = "",
    data_dir: Location = "",
) -> Fit:
    """The VQ autoencoder of 256x256 pixels to 64x64 latents, at the paper's scale, with a discriminator; needs GPUs.

    The authors trained theirs on OpenImages, with a perceptual distance by VGG.

    Args:
        batch: the rate grows with it.
        width: channels at full resolution.
        size: height and width of the images.
        adversarial_from: step from which the discriminator trains, too; None: no discriminator.
        perceptual: network of a perceptual distance, of an installed package; '' for none.
        data_dir: local folder of parquet files with the columns image and label; '' takes the hub.
    """
    first = imagenet_stage("vq", width, perceptual, paper_optim(batch), size)
    return Fit(judged(first, adversarial_from), imagenet(size, data_dir), of_reconstructions)


def own_stage(
    data: Data, kind: Kind, width: int, codes: int, kl_weight: float, perceptual: PerceptualNet
) -> FirstStage:
    """The first stage of a user's images: a quarter of their sides, 4 channels.

    Raises:
        UsageError: the data are no images.
    """
    if len(data.shape) != 3:
        raise UsageError(
            f"An autoencoder of latent diffusion is for images, but an example of this data has the shape {data.shape}."
        )
    return first_stage(
        data.shape,
        kind,
        channels=4,
        width=width,
        multiples=(1, 2, 2),
        codes=codes,
        kl_weight=kl_weight,
        perceptual=perceptual,
    )


@fit(
    system="KL autoencoder", headline=PAPER, data="", steps=20_000, batch=32, lr=1e-4, warmup=500, ema=0.999, log_every=50,
)  # fmt: skip
def autoencoder(
    *,
    data: Location = "",
    size: int = 0,
    kind: Kind = "kl",
    width: int = 64,
    codes: Count = 1024,
    kl_weight: NotNegative = 1e-6,
    adversarial_from: Whole | None = None,
    perceptual: PerceptualNet = "",
) -> Fit:
    """The autoencoder of latent diffusion on images, to a quarter of their sides; `ldm` can start from its run.

    Args:
        data: a folder of images, or the name of a set.
        size: height and width of the images.
        kind: 'kl' with Gaussian latents, or 'vq' with a codebook.
        width: channels at full resolution, twice as many below.
        codes: in the codebook of 'vq'.
        kl_weight: of the divergence of 'kl'.
        adversarial_from: step from which a discriminator of patches trains, too; None: no discriminator.
        perceptual: network of a perceptual distance, of an installed package; '' for none.
    """
    from datamodules.readers.own import read

    found = read(data, kind="images", size=size)
    first = own_stage(found, kind, width, codes, kl_weight, perceptual)
    return Fit(
        judged(first, adversarial_from, halvings=max(1, min(found.shape[1:]).bit_length() - 4)),
        found,
        of_reconstructions,
    )
