"""Recipes of real emoji and their names: GLIDE and EDM at a size for two cores, and the CLIP that judges their samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe import Fit, Headline, Location, UsageError, fit
from ray_jobs.recipe.captions import agreement, by_judge, without_captions
from ray_jobs.recipe.ranges import Count, Decay, Whole
from ray_jobs.recipes.multistage.glide import PAPER, read, small_clip, small_net

if TYPE_CHECKING:
    from datamodules.base import Batch
    from datamodules.readers.captioned import Captioned
    from lightning_modules.diffusion.clip import CLIP
    from lightning_modules.diffusion.denoising import Denoising
    from lightning_modules.nets.text.vocabulary import Vocabulary
    from lightning_modules.staged import Staged

STRENGTHS = (0.0, 2.0)
"""w, at which samples are measured: none, and the paper's scale 3."""
STD = 0.6
"""Standard deviation of the emoji's pixels, white grounds included."""
MEASURED = 200
"""Captions that samples are drawn of, of those seen in training and of those held out."""


def opened(data_dir: str) -> tuple[Captioned, Vocabulary]:
    """The emoji of 32 pixels, of the user's cache or of a folder, and the words of those to train on."""
    return read(data_dir or "emoji", 32, words=16)  # type: ignore[return-value]  # only shapes are another class


@fit(
    system="CLIP", data="emoji with their names", headline=Headline("Radford et al. 2021", arxiv="2103.00020"),
    space={"lr": "loguniform(3e-4,5e-3)"}, steps=1500, batch=64, ema=0.99,
)  # fmt: skip
def clip_emoji(*, data_dir: Location = "", width: int = 64, patch: int = 4) -> Fit:
    """A CLIP of emoji and their names, which judges the samples of `glide_emoji`.

    Args:
        data_dir: a folder of images with captions; by default the emoji, which npm fetches once into the user's cache.
        width: channels at full resolution, twice as many at half; features of captions.
        patch: side of the squares of pixels that the network works on.
    """
    data, vocabulary = opened(data_dir)
    return Fit(small_clip(data, vocabulary, width, None, patch=patch), data, of_clip)  # type: ignore[arg-type]


@fit(
    system="GLIDE", data="emoji with their names", headline=PAPER, space={"lr": "loguniform(3e-4,5e-3)", "width": "choice(64,96,128)"},
    steps=20_000, batch=32, ema=0.999, grad_clip=1.0, needs={"judge": "clip_emoji"},
)  # fmt: skip
def glide_emoji(
    *,
    steps: int,
    data_dir: Location = "",
    width: int = 64,
    patch: int = 4,
    levels: Count = 1000,
    drop: Decay = 0.1,
    judge_steps: Whole | None = None,
    sample_steps: Count = 25,
    bf16: bool = True,
) -> Fit:
    """GLIDE on real emoji of 32 x 32 pixels with their names and keywords; a CLIP that is trained first judges its samples and guides none.

    Args:
        steps: of the judge and of the diffusion model.
        data_dir: a folder of images with captions; by default the emoji, which npm fetches once into the user's cache.
        width: channels of the U-Net, twice as many at half the size, and features of captions; and those of the judge.
        patch: side of the squares of pixels that both work on; below 3 patch^2 channels the noise does not pass.
        levels: noise levels in training, on the cosine schedule.
        drop: share of the captions that are empty in training.
        judge_steps: of the CLIP that judges; None: a tenth of all, and 0 with --start judge=RUN.
        sample_steps: of the sampler.
        bf16: whether the U-Net computes in bfloat16.
    """
    from lightning_modules.diffusion import schedules
    from lightning_modules.diffusion.models.glide import glide as build
    from lightning_modules.optim import AdamW

    data, vocabulary = opened(data_dir)
    model = build(
        small_net(data, vocabulary, width, patch=patch, bf16=bf16), data.shape, levels=schedules.cosine(levels),
        drop=drop, sample_steps=min(sample_steps, levels), optim=AdamW(2e-3, 100),
    )  # fmt: skip
    return judged(model, small_clip(data, vocabulary, width, None, patch=patch), data, steps, judge_steps)


@fit(
    system="EDM", data="emoji with their names", headline=Headline("Karras et al. 2022", arxiv="2206.00364"),
    space={"lr": "loguniform(3e-4,5e-3)", "width": "choice(64,96,128)"},
    steps=12_000, batch=32, ema=0.999, grad_clip=1.0, needs={"judge": "clip_emoji"},
)  # fmt: skip
def edm_emoji(
    *,
    steps: int,
    data_dir: Location = "",
    width: int = 64,
    patch: int = 2,
    drop: Decay = 0.1,
    judge_steps: Whole | None = None,
    sample_steps: Count = 18,
    bf16: bool = True,
) -> Fit:
    """EDM on real emoji of 32 x 32 pixels with their names and keywords: it draws shapes after far fewer steps than GLIDE.

    Args:
        steps: of the judge and of the diffusion model.
        data_dir: a folder of images with captions; by default the emoji, which npm fetches once into the user's cache.
        width: channels of the U-Net, twice as many at half the size, and features of captions; and those of the judge.
        patch: side of the squares of pixels that the U-Net works on; the judge's are 4.
        drop: share of the captions that are empty in training.
        judge_steps: of the CLIP that judges; None: a tenth of all, and 0 with --start judge=RUN.
        sample_steps: of Heun's method.
        bf16: whether the U-Net computes in bfloat16.
    """
    from lightning_modules.diffusion.models.edm import edm
    from lightning_modules.optim import AdamW

    data, vocabulary = opened(data_dir)
    net = small_net(data, vocabulary, width, patch=patch, bf16=bf16, outputs=1)
    optim = AdamW(2e-3, 100, weight_decay=0.0)
    model = edm(net, data.shape, data_std=STD, caption_drop=drop, steps=sample_steps, optim=optim)
    return judged(model, small_clip(data, vocabulary, width, None, patch=4), data, steps, judge_steps)


def judged(model: Denoising, judge: CLIP, data: Captioned, steps: int, judge_steps: int | None) -> Fit:
    """A CLIP that judges, then the diffusion model.

    Raises:
        UsageError: the judge has more than all steps.
    """
    from lightning_modules.staged import Stage, Staged

    first = steps // 10 if judge_steps is None else judge_steps
    if first > steps:
        raise UsageError(f"--judge_steps {first} are more than all --steps {steps}: leave some to the diffusion model.")
    staged = Staged((Stage("judge", judge, first), Stage("diffusion", model, steps - first)))
    return Fit(staged, data, of_both)  # type: ignore[arg-type]


def pairs(data: Captioned, n: int = MEASURED) -> dict[str, Batch]:
    """n pictures with the first caption of each: of those seen in training ('') and of those that are held out."""
    assert data.encode is not None
    first = [of_one[0] for of_one in data.texts()[:n]]
    return {"": data.images.seen(n) | {"caption": data.encode(first)}, "held_out_": data.test(n)}


def of_clip(model: CLIP, data: Captioned) -> dict[str, float]:
    """clip_score and retrieval of emoji seen in training and, with held_out_ before, of others; chance levels."""
    found: dict[str, float] = {}
    for part, batch in pairs(data).items():
        of = batch["x"], batch["caption"]
        of_part = agreement(model, *of) | without_captions(model, *of)
        found |= {f"{part}{name}": value for name, value in of_part.items()}
    return found


def of_both(model: Staged, data: Captioned) -> dict[str, float]:
    """`by_judge` of samples of captions that were seen in training and, with held_out_ before, of those that were held out."""
    judge, diffusion = (stage.model for stage in model.stages)
    found: dict[str, float] = {}
    for part, batch in pairs(data).items():
        scores = by_judge(judge, diffusion, batch, STRENGTHS)  # type: ignore[arg-type]
        found |= {f"{part}{name}": value for name, value in scores.items()}
    return found
