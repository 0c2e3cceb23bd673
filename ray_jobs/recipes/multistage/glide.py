"""Recipes of GLIDE: from captions to images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ray_jobs.recipe import Claim, Fit, Headline, Location, RequiredLocation, UsageError, Variant, fit
from ray_jobs.recipe.captions import at_strengths, chance, likeness_of_captions, retrieval, retrieval_chance
from ray_jobs.recipe.ranges import Count, Decay, Whole
from ray_jobs.recipes.diffusion.own_data import OPTIONS

if TYPE_CHECKING:
    from datamodules.base import Data
    from datamodules.labs.shapes import Shapes
    from lightning_modules.diffusion.clip import CLIP
    from lightning_modules.diffusion.denoising import Denoising
    from lightning_modules.nets.text.captioned import Captioned as CaptionedNet
    from lightning_modules.nets.text.vocabulary import Vocabulary
    from lightning_modules.staged import Staged

PAPER = Headline("Nichol et al. 2021", arxiv="2112.10741")
STRENGTHS = (0.0, 2.0)
"""w, at which the laboratory is measured: none, and the paper's scale 3."""


def small_net(
    data: Data, vocabulary: Vocabulary, width: int, *, patch: int, bf16: bool, outputs: int = 2
) -> CaptionedNet:
    """The network of the laboratory: a transformer of captions, and a U-Net on squares of pixels that attends to them everywhere.

    Args:
        outputs: how often its output has the channels of an image; 2 with a learned variance.
    """
    from lightning_modules.nets.text.captioned import Captioned
    from lightning_modules.nets.text.transformer import TextTransformer
    from lightning_modules.nets.unet import UNet

    head = min(32, width)
    body = UNet(
        data.shape[0], width=width, multiples=(1, 2), blocks=1, attention=(0, 1), head=head, outputs=outputs, patch=patch,
        scale_shift=True, text=width, vector=width, bf16=bf16,
    )  # fmt: skip
    body.check(data.shape)
    return Captioned(TextTransformer(vocabulary, width=width, heads=max(1, width // 16)), body)


def small_clip(data: Data, vocabulary: Vocabulary, width: int, diffusion: Denoising | None, *, patch: int) -> CLIP:
    """A small CLIP, of the noised images of a diffusion or of clean ones."""
    from lightning_modules.diffusion.clip import CLIP
    from lightning_modules.nets.encoders import UNetEncoder
    from lightning_modules.nets.text.transformer import TextTransformer
    from lightning_modules.optim import AdamW

    head = min(32, width)
    image = UNetEncoder(
        data.shape, width, width=width, multiples=(1, 2), blocks=1, attention=(0, 1), head=head, patch=patch
    )
    text = TextTransformer(vocabulary, width=width, heads=max(1, width // 16), causal=True)
    optim = AdamW(2e-3, 100, weight_decay=0.05)
    return CLIP(image, text, features=width, diffusion=diffusion, shape=data.shape, optim=optim)


@fit(
    system="CLIP", data="shapes with captions and noise", headline=Headline("Radford et al. 2021", arxiv="2103.00020"),
    claim=Claim("retrieval_0.1", at_least=0.65), space={"lr": "loguniform(3e-4,5e-3)"}, steps=1000, batch=64, ema=0.99,
)  # fmt: skip
def clip_shapes(*, width: int = 32, patch: int = 4, levels: Count = 1000) -> Fit:
    """A CLIP of noised pictures of shapes as a run of its own, from which `glide_shapes` can start.

    Args:
        width: channels at full resolution, twice as many at half; features of captions.
        patch: side of the squares of pixels that the network works on.
        levels: noise levels, on the cosine schedule.
    """
    from torch import nn

    from datamodules.labs.shapes import WORDS, Shapes
    from lightning_modules.diffusion import schedules
    from lightning_modules.diffusion.models.glide import glide
    from lightning_modules.nets.text.vocabulary import Vocabulary

    data = Shapes()
    diffusion = glide(nn.Identity(), data.shape, levels=schedules.cosine(levels), sample_steps=1)
    model = small_clip(data, Vocabulary(WORDS, 12), width, diffusion, patch=patch)
    return Fit(model, data, of_clip)  # type: ignore[arg-type]


def of_clip(model: CLIP, data: Shapes) -> dict[str, float]:
    """retrieval_S: share of held-out pictures at the noise level S whose own caption the CLIP finds among 256; `retrieval_chance`."""
    found = {f"retrieval_{level:g}": retrieval(model, data, level) for level in (0.1, 1.0)}
    return found | {"retrieval_chance": retrieval_chance(data.test(256)["caption"])}


@fit(
    system="GLIDE", data="shapes with captions", headline=PAPER,
    space={"lr": "loguniform(3e-4,5e-3)", "width": "choice(64,96,128)"}, steps=5000, batch=32, ema=0.998,
    grad_clip=1.0, needs={"clip": "clip_shapes"},
    variants={"clip": Variant("shapes with captions", None, {"clip": True, "steps": 6000})},
)  # fmt: skip
def glide_shapes(
    *,
    steps: int,
    width: int = 64,
    patch: int = 4,
    levels: Count = 1000,
    drop: Decay = 0.2,
    clip: bool = False,
    clip_steps: Whole | None = None,
    sample_steps: Count = 25,
    bf16: bool = True,
) -> Fit:
    """GLIDE on pictures of shapes with captions of six attributes, which a reader of pixels judges; with a CLIP that guides, or without.

    Args:
        steps: of the CLIP and of the diffusion model.
        width: channels of the U-Net, twice as many at half the size, and features of captions; below 3 patch^2 the noise does not pass.
        patch: side of the squares of pixels that the networks work on.
        levels: noise levels in training, on the cosine schedule.
        drop: share of the captions that are empty in training.
        clip: whether a CLIP of noised images is trained first, and `--guidance` is by its gradient.
        clip_steps: of the CLIP; None: a sixth of all, and 0 with --start clip=RUN.
        sample_steps: of the sampler.
        bf16: whether the U-Net computes in bfloat16.
    """
    from datamodules.labs.shapes import WORDS, Shapes
    from lightning_modules.diffusion import schedules
    from lightning_modules.diffusion.models.glide import clip_guided
    from lightning_modules.diffusion.models.glide import glide as build
    from lightning_modules.nets.text.vocabulary import Vocabulary
    from lightning_modules.optim import AdamW

    if clip_steps is not None and not clip:
        raise UsageError(f"--clip_steps {clip_steps} is for a CLIP that guides: give --clip true too, or leave it out.")
    data, vocabulary = Shapes(), Vocabulary(WORDS, 12)
    model = build(
        small_net(data, vocabulary, width, patch=patch, bf16=bf16), data.shape, levels=schedules.cosine(levels),
        drop=drop, sample_steps=min(sample_steps, levels), optim=AdamW(3e-3, 100),
    )  # fmt: skip
    if not clip:
        return Fit(model, data, of_shapes)  # type: ignore[arg-type]
    guide = small_clip(data, vocabulary, width, model, patch=patch)
    first = steps // 6 if clip_steps is None else clip_steps
    return Fit(clip_guided(guide, model, clip_steps=first, steps=steps), data, of_both)  # type: ignore[arg-type]


def of_shapes(model: Denoising, data: Shapes) -> dict[str, float]:
    """`at_strengths`, and `chance`."""
    return at_strengths(model, data, STRENGTHS) | chance()


def of_both(model: Staged, data: Shapes) -> dict[str, float]:
    """`of_shapes` by classifier-free guidance; by CLIP's gradient the same, and `of_clip`, under clip_. The CLIP guides and does not judge.

    clip_gain: attributes that are right by CLIP's gradient, above those without guidance.
    """
    guide, base = (stage.model for stage in model.stages)
    strength = STRENGTHS[-1]
    by_clip = at_strengths(base, data, (strength,)) | of_clip(guide, data)  # type: ignore[arg-type]
    found = of_shapes(without_clip(base), data)  # type: ignore[arg-type]
    found |= {f"clip_{name}": value for name, value in by_clip.items()}
    return found | {"clip_gain": found[f"clip_attributes_{strength:g}"] - found["attributes_0"]}


def without_clip(model: Denoising) -> Denoising:
    """The same model, its weights too, guided by its own estimate for the empty caption."""
    from copy import copy

    other = copy(model)
    other.draw = replace(model.draw, classifier=None)
    return other


def read(data: str, size: int, text: str = "", *, words: int = 128) -> tuple[Data, Vocabulary]:
    """The images with captions that a user means by a word, and the words of their captions, by which these become tokens.

    Args:
        words: of a caption, at most; longer ones are cut.

    Raises:
        ValueError: there are none, or some have no caption.
    """
    from datamodules.labs.shapes import WORDS, Shapes
    from datamodules.readers.captioned import read as open_captioned
    from lightning_modules.nets.text.vocabulary import Vocabulary

    found = open_captioned(data, size=size, text=text)
    if isinstance(found, Shapes):
        return found, Vocabulary(WORDS, 12)
    vocabulary = Vocabulary.of((caption for of_one in found.texts() for caption in of_one), most=words)
    found.encode = vocabulary.captions
    return found, vocabulary


def adm_net(
    data: Data,
    vocabulary: Vocabulary,
    *,
    width: int,
    multiples: tuple[int, ...],
    blocks: int,
    attention: tuple[int, ...],
    dropout: float,
    text_width: int,
    text_depth: int,
    bf16: bool = False,
    checkpoint: bool = False,
) -> CaptionedNet:
    """ADM's network with captions: heads of 64 channels, or of all where there are fewer."""
    from lightning_modules.nets.text.captioned import Captioned
    from lightning_modules.nets.text.transformer import TextTransformer
    from lightning_modules.nets.unet import UNet

    body = UNet(
        data.shape[0], width=width, multiples=multiples, blocks=blocks, attention=attention, head=min(64, width),
        dropout=dropout, outputs=2, scale_shift=True, residual_resampling=True, text=text_width, vector=text_width,
        bf16=bf16, checkpoint=checkpoint,
    )  # fmt: skip
    body.check(data.shape)
    heads = next(h for h in range(max(1, text_width // 64), 0, -1) if text_width % h == 0)
    return Captioned(TextTransformer(vocabulary, width=text_width, depth=text_depth, heads=heads), body)


@fit(system="GLIDE", headline=PAPER, **OPTIONS)
def glide(
    *,
    data: Location = "",
    size: int = 0,
    text: str = "",
    width: int = 64,
    text_width: int = 128,
    text_depth: int = 4,
    levels: Count = 1000,
    drop: Decay = 0.2,
    dropout: Decay = 0.0,
    sample_steps: Count = 100,
) -> Fit:
    """GLIDE's base model on images with captions: `reprise sample RUN --prompt "..." --guidance 2`.

    Args:
        data: a folder of images with a captions.csv (columns file_name and caption) or captions.jsonl, or of parquet files; a set on the
            hub; emoji; or shapes.
        size: height and width of the images; 0: 32.
        text: column of the captions in parquet files; by default one that is called caption, captions, text, prompt or sentences.
        width: channels of the U-Net at full resolution, twice as many below.
        text_width: features of captions.
        text_depth: blocks of the transformer of captions.
        levels: noise levels in training, on the cosine schedule.
        drop: share of the captions that are empty in training, so that samples can be guided.
        dropout: in the blocks of the U-Net.
        sample_steps: of the sampler.
    """
    from lightning_modules.diffusion import schedules
    from lightning_modules.diffusion.models.glide import glide as build
    from lightning_modules.optim import AdamW

    found, vocabulary = read(data, size, text)
    net = adm_net(
        found, vocabulary, width=width, multiples=(1, 2, 2), blocks=2, attention=(1, 2), dropout=dropout,
        text_width=text_width, text_depth=text_depth,
    )  # fmt: skip
    model = build(
        net,
        found.shape,
        levels=schedules.cosine(levels),
        drop=drop,
        sample_steps=min(sample_steps, levels),
        optim=AdamW(2e-4),
    )
    return Fit(model, found, likeness_of_captions)  # type: ignore[arg-type]


@fit(
    system="GLIDE", data="COCO captions, 64x64",
    headline=Headline("Nichol et al. 2021", arxiv="2112.10741", metric="FID", value=12.24, where="Table 2, zero-shot, 256x256"),
    space={"lr": "loguniform(3e-5,3e-4)"}, steps=2_500_000, batch=2048, lr=1e-4, ema=0.9999, num_workers=8,
    save_every=5000, log_every=100,
)  # fmt: skip
def glide_coco(
    *,
    data_dir: RequiredLocation = "",
    text: str = "",
    width: int = 512,
    text_width: int = 2048,
    text_depth: int = 24,
    levels: Count = 1000,
    drop: Decay = 0.2,
    dropout: Decay = 0.1,
    sample_steps: Count = 250,
    bf16: bool = True,
    checkpoint: bool = True,
) -> Fit:
    """GLIDE's base model of 64x64 pixels at the paper's scale, on COCO's images and captions; needs many GPUs.

    The paper trains on more images than COCO's, and measures after an upsampler to 256x256; this is the base alone.

    Args:
        data_dir: COCO's folder (train2017/, val2017/ and annotations/captions_*.json), or any other folder of images with captions.
        text: column of the captions in parquet files.
        width: channels of the U-Net at full resolution; 192 in the weights that the authors released.
        text_width: features of captions; 512 there.
        text_depth: blocks of the transformer of captions; 16 there.
        levels: noise levels in training, on the cosine schedule.
        drop: share of the captions that are empty in training.
        dropout: in the blocks of the U-Net.
        sample_steps: of the sampler.
        bf16: whether the U-Net computes in bfloat16.
        checkpoint: whether its blocks are computed again in the backward pass, to save memory.
    """
    from lightning_modules.diffusion import schedules
    from lightning_modules.diffusion.models.glide import glide as build
    from lightning_modules.optim import AdamW

    data, vocabulary = read(data_dir, 64, text)
    net = adm_net(
        data, vocabulary, width=width, multiples=(1, 2, 3, 4), blocks=3, attention=(1, 2, 3), dropout=dropout,
        text_width=text_width, text_depth=text_depth, bf16=bf16, checkpoint=checkpoint,
    )  # fmt: skip
    steps = min(sample_steps, levels)
    model = build(net, data.shape, levels=schedules.cosine(levels), drop=drop, sample_steps=steps, optim=AdamW(1e-4))
    return Fit(model, data, likeness_of_captions)  # type: ignore[arg-type]
