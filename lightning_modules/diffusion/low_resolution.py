"""Low-resolution twins of images, and the noise and blur by which a super-resolution model learns to forgive an imperfect one.

Source: Ho et al. 2021, arXiv:2106.15282, section 3 (conditioning augmentation); Saharia et al. 2022, arXiv:2205.11487, section 2.4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.conditions import Cond
from lightning_modules.diffusion.preconditioning import append_dims
from lightning_modules.draws import Draws, normal

BLUR = 0.4, 0.6
"""Ends of the interval from which the deviation of the blur, in pixels of the twin, is drawn uniformly."""


def low(x: Tensor, factor: int) -> Tensor:
    """The means of factor x factor pixels, [B, C, H, W] -> [B, C, H / factor, W / factor].

    Raises:
        ValueError: the images cannot be cut into such squares.
    """
    if factor < 1 or x.shape[2] % factor or x.shape[3] % factor:
        raise ValueError(
            f"Images of {x.shape[2]} x {x.shape[3]} pixels cannot be cut into squares of {factor} x {factor}: "
            "take a size that the factor divides."
        )
    return F.avg_pool2d(x, factor) if factor > 1 else x


def time_of(level: float) -> float:
    """Level s of noise -> time 2 / pi arctan(s) in [0, 1] of the cosine schedule, the number that a network is given."""
    return 2 / math.pi * math.atan(level)


def noised(image: Tensor, time: Tensor, n: Tensor) -> Tensor:
    """Images z [B, C, h, w] with noise n at times t [B]: cos(pi t / 2) z + sin(pi t / 2) n.

    That is (z + s n) / sqrt(1 + s^2) at the level s = tan(pi t / 2): variance-preserving, and z itself where t = 0.
    """
    angle = append_dims(time, image) * (math.pi / 2)
    return angle.cos() * image + angle.sin() * n


def blurred(image: Tensor, std: Tensor) -> Tensor:
    """Images [B, C, h, w] after a Gaussian filter of 3x3 pixels and deviations [B]; at the edges the nearest pixel repeats."""
    side = torch.exp(-0.5 / std**2)
    weight = torch.stack([side, torch.ones_like(side), side], 1) / (1 + 2 * side)[:, None]
    (b, c, h, w), kernel = image.shape, weight.to(image).repeat_interleave(image.shape[1], 0)
    x = F.pad(image, (1, 1, 1, 1), mode="replicate").reshape(1, b * c, h + 2, w + 2)
    x = F.conv2d(x, kernel[:, None, :, None], groups=b * c)
    return F.conv2d(x, kernel[:, None, None, :], groups=b * c).reshape(image.shape)


@dataclass(frozen=True)
class Twins:
    """What training does to the twins `Cond.image`, for `Learn.augment`: blurs a share of them, then adds noise of a level that
    the network is given in `Cond.numbers`.

    Args:
        shape: (C, h, w) of a twin.
        most: the highest level of noise in training. inf: up to noise alone; 0: no noise.
        power: times of levels are that of the highest times u ** power, u uniform: 1 in the papers; above it low levels are more frequent.
        blur: share of the twins that are blurred; when samples are drawn, none is.

    Raises:
        ValueError: `most` is negative, `power` is not positive, or the share is not in [0, 1].
    """

    shape: tuple[int, ...]
    most: float = math.inf
    power: float = 1.0
    blur: float = 0.0

    def __post_init__(self) -> None:
        if not self.most >= 0:
            raise ValueError(
                f"The highest level of noise in low-resolution images must be at least 0, not {self.most:g}."
            )
        if not self.power > 0:
            raise ValueError(
                f"The power of the noise levels of low-resolution images must be positive, not {self.power:g}."
            )
        if not 0 <= self.blur <= 1:
            raise ValueError(f"The share of blurred low-resolution images must be in [0, 1], not {self.blur:g}.")

    def __call__(self, x: Tensor, cond: Cond, draws: Draws) -> tuple[Tensor, Cond]:
        """The examples as they are, and their conditions with changed twins and the time [B, 1] of each level."""
        image = self._image(cond)
        n, device = len(image), image.device
        if self.blur:
            chosen = draws.uniform(n, device=device) < self.blur
            std = BLUR[0] + (BLUR[1] - BLUR[0]) * draws.uniform(n, device=device)
            image = torch.where(append_dims(chosen, image), blurred(image, std), image)
        if not self.most:
            return x, replace(cond, image=image)
        time = time_of(self.most) * draws.uniform(n, device=device) ** self.power
        image = noised(image, time, draws.normal(*image.shape, device=device).to(image))
        return x, replace(cond, image=image, numbers=time[:, None].to(image))

    def unchanged(self, cond: Cond, like: Tensor) -> Cond:
        """The conditions with the time 0, that of twins without noise, for each of `like`.

        Raises:
            ValueError: there are no twins, or they have another size.
        """
        self._image(cond)
        return replace(cond, numbers=like.new_zeros(len(like), 1)) if self.most else cond

    def at(self, cond: Cond, level: float, rng: torch.Generator | None = None) -> Cond:
        """The conditions of drawing at this level of noise, which their twins get here.

        Raises:
            ValueError: training had no noise of this level, or the twins have another size.
        """
        image = self._image(cond)
        self.check(level)
        if not level:
            return self.unchanged(cond, image)
        time = image.new_full((len(image), 1), time_of(level))
        n = normal(*image.shape, rng=rng, dtype=image.dtype).to(image)
        return replace(cond, image=noised(image, time[:, 0], n), numbers=time)

    def with_noise(self, cond: Cond, level: float) -> Cond:
        """The conditions of drawing where the twins z + s n have noise of this level s already; see `at`.

        Raises:
            ValueError: as `at`.
        """
        image = self._image(cond)
        self.check(level)
        if not level:
            return self.unchanged(cond, image)
        return replace(
            cond, image=image / math.hypot(1, level), numbers=image.new_full((len(image), 1), time_of(level))
        )

    def check(self, level: float) -> None:
        """Refuse a level of noise that training did not have.

        Raises:
            ValueError: it had none so high, or the level is negative.
        """
        if not 0 <= level <= self.most:
            raise ValueError(
                f"The noise level of low-resolution images must be from 0 to {self.most:g}, as in training, not {level:g}."
            )

    def _image(self, cond: Cond) -> Tensor:
        if cond.image is None or tuple(cond.image.shape[1:]) != self.shape:
            has = "none" if cond.image is None else "images of " + " x ".join(map(str, cond.image.shape[1:]))
            raise ValueError(
                f"This model draws from low-resolution images of {' x '.join(map(str, self.shape))} (channels, height, width), "
                f"but was given {has}."
            )
        return cond.image
