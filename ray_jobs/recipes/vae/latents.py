"""What recipes share that learn the latents of an autoencoder: its two stages, latents that are kept, and the plan of images."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from ray_jobs.recipe import Fit, UsageError
from ray_jobs.recipe.measures import frechet_to_held_out, measuring
from ray_jobs.recipes.vae import autoencoders

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from datamodules.base import Data, Source
    from lightning_modules.diffusion.denoising import Denoising
    from lightning_modules.optim import Optim
    from lightning_modules.staged import Staged
    from lightning_modules.vae.first_stage import FirstStage

Kept = Literal["float32", "float16"]
"""The numbers of latents in a folder."""


def staged(
    first: FirstStage,
    net: nn.Module,
    *,
    first_steps: int,
    steps: int,
    levels: int,
    sample_steps: int,
    rescale: bool = True,
    optim: Optim | None = None,
    **conditions: Any,
) -> Staged:
    """The autoencoder, then the diffusion of its latents.

    Args:
        first: the autoencoder.
        net: of the diffusion.
        first_steps: of the autoencoder, 0 where it comes from another run.
        steps: of both.
        levels: noise levels in training.
        sample_steps: of the sampler.
        rescale: whether the latents are scaled.
        optim: of the diffusion's network; None: Adam at 1e-4.
        conditions: `conditions` and `hide` of `latent_diffusion`.
    """
    from lightning_modules.diffusion import schedules
    from lightning_modules.diffusion.models.latent_diffusion import Latents, in_two_stages, latent_diffusion
    from lightning_modules.optim import Adam

    prior = latent_diffusion(
        net, first.shape, Latents(first), levels=schedules.scaled_linear(levels), steps=sample_steps, optim=optim or Adam(1e-4),
        **conditions,
    )  # fmt: skip
    return in_two_stages(first, prior, first_steps=first_steps, steps=steps, rescale=rescale)


def labelled(drop: float) -> dict[str, Any]:
    """The conditions of labels that are hidden for a share of the examples; none where it is 0."""
    from lightning_modules.diffusion.denoising import by_label

    conditions, hide = by_label(drop or None)
    return {"conditions": conditions, "hide": hide}


def parts(model: Staged) -> tuple[FirstStage, Denoising]:
    """The autoencoder and the diffusion."""
    first, prior = (stage.model for stage in model.stages)
    return first, prior  # type: ignore[return-value]


def cache_latents(model: Staged, data: Data, folder: str, dtype: Kept) -> None:
    """Let the diffusion train on latents that are computed once, and kept in a folder; '' computes them at every step.

    Raises:
        UsageError: the autoencoder would still train.
    """
    if not folder:
        return
    if model.stages[0].steps:
        raise UsageError(
            "--cache keeps what a finished autoencoder makes of each image: give --autoencoder_steps 0 and --start autoencoder=RUN."
        )
    from pathlib import Path

    data.paired = partial(cached, model, Path(folder), dtype)


def cached(model: Staged, folder: Path, dtype: Kept, source: Source) -> Source:
    """The source of the moments in a folder, which the first worker fills while the others wait."""
    from datamodules.latents import fingerprint, keep, kept

    first, strategy = parts(model)[0].eval(), model.trainer.strategy
    whose = fingerprint(first)
    found = kept(source, folder, first_stage=whose, dtype=dtype)
    strategy.barrier(
        "looked"
    )  # or a worker that looks late finds what the first one wrote, and another number of barriers
    if found is None and model.trainer.is_global_zero:
        keep(source, partial(moments_of, first), folder, first_stage=whose, dtype=dtype)
    strategy.barrier("kept")
    made = found or kept(source, folder, first_stage=whose, dtype=dtype)
    if made is None:
        raise ValueError(
            f"This worker does not see the latents that the first one wrote to {folder}: name a folder that all share."
        )
    return made


def moments_of(first: FirstStage, x: Tensor) -> Tensor:
    """The moments of images [B, *shape]."""
    import torch

    with torch.no_grad():
        return first.moments(x.to(first.device))


def of_images(
    first: FirstStage,
    images: Data,
    *,
    steps: int,
    width: int,
    drop: float,
    levels: int,
    sample_steps: int,
    autoencoder_steps: int | None,
    folder: str,
    dtype: Kept,
    bf16: bool = False,
) -> Fit:
    """The plan of images with labels, where `drop` is not 0: the settings are those of `ldm_fashion`."""
    from lightning_modules.nets.unet import UNet
    from lightning_modules.optim import Adam

    halved = first.latents[1] % 2 == 0 and first.latents[2] % 2 == 0
    net = UNet(
        first.latents[0], width=width, multiples=(1, 2) if halved else (1,), blocks=2, attention=(0, 1), head=width,
        classes=images.classes if drop else 0, label_token=bool(drop), bf16=bf16,
    )  # fmt: skip
    model = staged(
        first, net, first_steps=steps // 3 if autoencoder_steps is None else autoencoder_steps, steps=steps, levels=levels,
        sample_steps=min(sample_steps, levels), optim=Adam(5e-4, 500), **labelled(drop),
    )  # fmt: skip
    cache_latents(model, images, folder, dtype)
    return Fit(model, images, of_both)  # type: ignore[arg-type]


def of_both(model: Staged, data: Data) -> dict[str, float]:
    """The distance of up to 1,024 samples, each with the label of a held-out image where there are labels, see `frechet_to_held_out`.

    And `autoencoders.of_reconstructions`.
    """
    first, prior = parts(model)
    batch = data.test(1024)
    n = len(batch["x"])
    drawn = prior.sample(n, batch["label"] if prior.hide else None, rng=measuring())
    return {"frechet_held_out": frechet_to_held_out(drawn, data, n)} | autoencoders.of_reconstructions(first, data)
