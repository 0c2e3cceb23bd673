"""Recipes of ControlNet."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from ray_jobs.recipe import Fit, Headline, Location, UsageError, fit
from ray_jobs.recipe.measures import measuring
from ray_jobs.recipe.ranges import Decay, Whole
from ray_jobs.recipes.diffusion.own_data import OPTIONS, STD, network, opened
from ray_jobs.recipes.diffusion.shared import imagenet64_net

if TYPE_CHECKING:
    from torch import Tensor

    from datamodules.base import Data
    from datamodules.labs.shapes import Shapes
    from lightning_modules.diffusion.denoising import Denoising
    from lightning_modules.staged import Staged

Control = Literal["edges", "mask"]
"""What a model follows: the edges of a picture, or the mask of what is on its ground."""
PAPER = Headline("Zhang et al. 2023", arxiv="2302.05543")


@fit(
    system="ControlNet", data="shapes, 32x32", headline=PAPER,
    space={"lr": "loguniform(3e-4,5e-3)", "width": "choice(24,32,48)"}, steps=6000, batch=64, lr=2e-3, warmup=100,
    ema=0.998, grad_clip=1.0,
)  # fmt: skip
def controlnet_shapes(
    *, steps: int, control: Control = "mask", width: int = 32, base_steps: Whole | None = None, sample_steps: int = 12
) -> Fit:
    """A ControlNet on pictures of one shape: what is drawn has the silhouette of the control, in any colour.

    An unconditional model is trained first, and then frozen. About 40 minutes on one core.

    Args:
        steps: optimiser steps of both together.
        control: what is followed, the 'edges' of the shape or its 'mask'.
        width: channels of the U-Net at half resolution, twice as many at a quarter.
        base_steps: optimiser steps of the frozen model before, half by default.
        sample_steps: of the sampler.
    """
    from datamodules.labs.shapes import Shapes
    from lightning_modules.diffusion.models.edm import edm
    from lightning_modules.nets.unet import UNet
    from lightning_modules.optim import AdamW

    data = Shapes()
    net = UNet(3, width=width, multiples=(1, 2), blocks=1, head=width, patch=2)
    base = edm(net, data.shape, data_std=0.79, steps=sample_steps, optim=AdamW(1e-3))
    first = steps // 2 if base_steps is None else base_steps
    model = controlled(base, first, steps - first, key=control, widths=(16, width))
    return Fit(model, data, partial(of_shapes, control=control))  # type: ignore[arg-type]


def controlled(
    base: Denoising, first: int, then: int, *, key: str, widths: tuple[int, ...], drop: float = 0.5
) -> Staged:
    """A base that trains for `first` steps and is then frozen, or comes from another run, and its ControlNet.

    Args:
        then: steps of the ControlNet.
        key: of a batch, under which the control is.
        widths: of the hint network.
        drop: share of the examples for which what the base can do without is hidden from the ControlNet in training.
    """
    from lightning_modules.diffusion.models.controlnet import controlnet, copy_to
    from lightning_modules.optim import AdamW
    from lightning_modules.staged import Stage, Staged

    branch = controlnet(base, key=key, channels=1, widths=widths, drop=drop, optim=AdamW(1e-5))
    return Staged((Stage("base", base, first, copy_to("control")), Stage("control", branch, then)))


def of_shapes(model: Staged, data: Shapes, *, control: Control, n: int = 256) -> dict[str, float]:
    """How samples follow the controls of n held-out pictures.

    iou: mean overlap of the silhouette read off the pixels with that of the control's picture. iou_uncontrolled: that of samples of the
    frozen model. kind_accuracy: share whose best fitting shape is the picture's. colour_entropy: of the samples' colours, in nats, at
    most log 6: the control leaves them open.
    """
    from datamodules.controls import overlap
    from datamodules.labs.shapes import COLOURS, read, silhouette
    from lightning_modules.conditions import Cond

    last: Denoising = model.last  # type: ignore[assignment]
    batch, rng = data.test(n), measuring()
    n = len(batch["x"])
    led = last.sample(n, Cond(control=batch[control]), rng=rng).float().cpu()
    free = last.sample(n, rng=rng).float().cpu()
    seen = silhouette(led)
    share = seen.colour.bincount(minlength=len(COLOURS)).double() / n
    return {
        "iou": overlap(seen.mask, batch["mask"]).mean().item(),
        "iou_uncontrolled": overlap(silhouette(free).mask, batch["mask"]).mean().item(),
        "kind_accuracy": (read(led).attributes.kind == batch["label"]).double().mean().item(),
        "colour_entropy": -share.xlogy(share).sum().item(),
    }


@fit(
    system="ControlNet", data="ImageNet, 64x64", headline=PAPER,
    space={"lr": "loguniform(3e-6,1e-4)"}, steps=100_000, batch=256, lr=1e-5, ema=0.9999, num_workers=8, save_every=2500,
    log_every=100, needs={"base": "cfg_imagenet64"},
)  # fmt: skip
def controlnet_imagenet64(
    *,
    steps: int,
    control: Control = "edges",
    width: int = 192,
    drop: float = 0.5,
    sample_steps: int = 256,
    base_steps: Whole = 0,
    data_dir: Location = "",
    bf16: bool = False,
) -> Fit:
    """A ControlNet on ImageNet of 64x64 pixels, with the paper's optimiser, rate and share of hidden conditions; needs GPUs.

    Its base is a finished run of cfg_imagenet64: `--start base=RUN`. The paper's base is a latent model of 512x512 pixels.

    Args:
        steps: optimiser steps of both together.
        control: what is followed, the 'edges' of a picture or the 'mask' of what is on its ground.
        width: channels of the U-Net at full resolution, as the base has them.
        drop: share of the images whose label is hidden.
        sample_steps: of the sampler.
        base_steps: optimiser steps of the base; 0 where it comes from another run.
        data_dir: local folder of parquet files with the columns image and label; '' takes the hub.
        bf16: whether the network computes in bfloat16.
    """
    from datamodules.readers.images import Images
    from lightning_modules.diffusion.models.classifier_free_guidance import classifier_free_guidance
    from lightning_modules.optim import AdamW

    images = with_controls(Images(name="benjamin-paine/imagenet-1k-64x64", data_dir=data_dir), control)
    net = imagenet64_net("unet", images, width, head=min(64, width), classes=images.classes, bf16=bf16)
    base = classifier_free_guidance(net, images.shape, steps=sample_steps, clip=True, optim=AdamW(1e-4))
    model = controlled(base, base_steps, steps - base_steps, key="control", widths=(16,), drop=drop)
    return Fit(model, images)


def with_controls(data: Data, kind: Control) -> Data:
    """The data, whose training batches hold a 'control' too."""
    from datamodules.controls import Controlled

    data.paired = partial(Controlled, kind=kind)
    return data


@fit(system="ControlNet", headline=PAPER, needs={"base": "edm"}, **OPTIONS)
def controlnet(
    *,
    steps: int,
    data: Location = "",
    size: int = 0,
    control: Control = "edges",
    width: int = 64,
    base_steps: Whole | None = None,
    dropout: Decay = 0.0,
    drop: Decay = 0.0,
) -> Fit:
    """A ControlNet on images: what is drawn follows the edges of another picture, or the mask of what is on its ground.

    An EDM is trained first, and then frozen. `--base_steps 0 --start base=RUN` takes it from a finished run of edm with the same
    `--data`, `--width`, `--dropout` and `--drop`.

    Args:
        steps: optimiser steps of both together.
        data: a folder of images, or the name of a set.
        size: of images their sides.
        control: what is followed, the 'edges' of a picture or the 'mask' of what is on its ground.
        width: channels of the U-Net at full resolution, twice as many below.
        base_steps: optimiser steps of the frozen model before, half by default; 0 where it comes from another run.
        dropout: in the blocks.
        drop: share of the labels that are hidden in training of the frozen model; half of them are for the ControlNet. 0: a model
            without labels.
    """
    from lightning_modules.diffusion.models.edm import edm
    from lightning_modules.optim import AdamW

    found = opened(data, size, drop)
    if len(found.shape) != 3:
        raise UsageError(
            f"A ControlNet is for images, but an example of '{data}' has the shape {found.shape}: give images."
        )
    with_controls(found, control)
    made = network(found, "unet", width, dropout, drop=drop)
    base = edm(made, found.shape, data_std=STD[True], label_drop=drop or None, optim=AdamW(1e-3))
    first = steps // 2 if base_steps is None else base_steps
    model = controlled(base, first, steps - first, key="control", widths=(16,))
    return Fit(model, found, partial(of_pictures, control=control))


def of_pictures(model: Staged, data: Data, *, control: Control, n: int = 64) -> dict[str, float]:
    """How samples follow the controls of n held-out pictures, with their labels where the model has some.

    control_iou: mean overlap of the control that is computed from a sample with the one that was given; of edges, which are one pixel
    wide, after both are widened by a pixel to each side. control_iou_uncontrolled: that of samples of the frozen model.
    """
    from datamodules.controls import CONTROLS, overlap, widened
    from lightning_modules.conditions import Cond

    last: Any = model.last
    batch, rng = data.test(n), measuring()
    given = CONTROLS[control](batch["x"])
    label = batch["label"] if last.hide else None

    def follows(x: Tensor) -> float:
        maps = (CONTROLS[control](x.float().cpu()), given)
        one, other = map(widened, maps) if control == "edges" else maps
        return overlap(one, other).mean().item()

    led = last.sample(len(given), Cond(label=label, control=given), rng=rng)
    free = last.sample(len(given), Cond(label=label), rng=rng)
    return {"control_iou": follows(led), "control_iou_uncontrolled": follows(free)}
