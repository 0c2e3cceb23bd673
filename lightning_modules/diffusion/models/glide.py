"""GLIDE: a diffusion model of captions, guided by its own estimate for the empty caption, or by a CLIP of noised images.

System: GLIDE
Source: Nichol et al. 2021, arXiv:2112.10741, sections 2.3 (classifier-free guidance with captions), 2.4 (CLIP guidance) and 4 (networks,
empty captions); Nichol & Dhariwal 2021, arXiv:2102.09672 (learned variance, cosine schedule).
Differs: captions are empty for a share of the examples from the first step on, where the authors fine-tune a finished model with them; the
network is given the logarithm of the noise level; there is no upsampler to 256x256 pixels and no inpainting here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from torch import Tensor, nn

from lightning_modules import objectives
from lightning_modules.diffusion import schedules
from lightning_modules.diffusion.bound import Decoder
from lightning_modules.diffusion.clip import CLIP
from lightning_modules.diffusion.denoising import Denoising, by_caption
from lightning_modules.diffusion.models.improved_ddpm import ImprovedDDPM
from lightning_modules.optim import AdamW, Optim
from lightning_modules.staged import Stage, Staged


def glide(
    net: nn.Module,
    shape: tuple[int, ...],
    *,
    levels: Tensor,
    drop: float = 0.2,
    sample_steps: int = 250,
    grid: Callable[[Tensor, int], Tensor] = schedules.spaced,
    decoder: Decoder = objectives.gaussian_log_prob,
    optim: Optim = AdamW(1e-4),  # frozen
) -> ImprovedDDPM:
    """The base model: Improved DDPM of images with captions, some of which are empty in training.

    Its strength w of guidance counts from 0; the paper's scale is 1 + w.

    Args:
        net: with captions, `nets.text.captioned.Captioned`; its output has twice the channels of an image.
        shape: of an image.
        levels: table [T] of noise levels, ascending: `schedules.cosine(1000)`.
        drop: share of the examples whose caption is empty in training.
        sample_steps: of the sampler.
        grid: which levels of the table it visits.
        decoder: log probability of x0 at the end of the bound.
        optim: of the network, the transformer of captions included.

    Raises:
        ValueError: `drop` is not in (0, 1).
    """
    model = ImprovedDDPM(net, shape, levels=levels, decoder=decoder, clip=True, optim=optim)
    model.conditions, model.hide = by_caption(drop)
    model.draw = replace(model.draw, grid=partial(grid, levels.double()), steps=sample_steps)
    return model


def clip_guided(clip: CLIP, diffusion: Denoising, *, clip_steps: int, steps: int) -> Staged:
    """A CLIP of noised images, then the diffusion model that it guides: the last part, which is sampled.

    Args:
        clip: made for `diffusion`; its optimiser must be of the same class.
        diffusion: with captions or without.
        clip_steps: of the CLIP; 0 where it comes from another run.
        steps: of both together.

    Raises:
        ValueError: the CLIP has more than all steps.
    """
    if not 0 <= clip_steps <= steps:
        raise ValueError(f"CLIP takes {clip_steps} of {steps} steps: take at least 0 and at most all.")
    diffusion.draw = replace(diffusion.draw, classifier=clip.log_ratio)
    return Staged((Stage("clip", clip, clip_steps), Stage("diffusion", diffusion, steps - clip_steps)))
