"""Cascaded diffusion: a base model draws small images, and super-resolution models draw larger ones given those.

System: Cascaded diffusion
Source: Ho et al. 2021, arXiv:2106.15282, section 3 (conditioning augmentation, truncated and non-truncated), section 4 (models in
continuous time for the super-resolution).
Differs: noise of the low-resolution images is uniform in the time of the cosine schedule, as in Imagen (Saharia et al. 2022,
arXiv:2205.11487), not in the steps of the base; blur comes before noise where both are used.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from lightning_modules.conditions import Cond, as_cond
from lightning_modules.diffusion import preconditioning, schedules, weighting
from lightning_modules.diffusion.denoising import Bound, Denoising, Draw, Learn, by_label
from lightning_modules.diffusion.low_resolution import Twins, low
from lightning_modules.diffusion.preconditioning import Preconditioning
from lightning_modules.diffusion.samplers.chain import Sampler
from lightning_modules.model import Batch
from lightning_modules.optim import Adam, Optim
from lightning_modules.staged import Stage, Staged


def base(
    net: nn.Module,
    shape: tuple[int, ...],
    *,
    label_drop: float | None = None,
    precondition: Preconditioning = preconditioning.noise,
    weight: Callable[[Tensor], Tensor] = weighting.simple,
    reach: float = 20.0,
    sampler: Sampler | None = None,
    steps: int = 100,
    clip: bool = True,
    optim: Optim = Adam(1e-4),  # frozen
) -> Denoising:
    """A model of the smallest images, at levels in continuous time; any other diffusion can take its place.

    Args:
        net: see `denoising.Net`.
        shape: of an image.
        label_drop: share of the labels that are hidden in training, for guidance; None: a model without labels.
        precondition: what the network predicts.
        weight: of the error of x0.
        reach: the logarithm of the signal-to-noise ratio is in [-reach, reach].
        sampler: None: ancestral.
        steps: of the sampler.
        clip: whether estimates of x0 stay in [-1, 1] when sampling.
        optim: of the network.
    """
    conditions, hide = by_label(label_drop)
    grid = partial(schedules.cosine_grid, reach=reach)
    return Denoising(
        net,
        shape,
        level_input=torch.log,
        precondition=precondition,
        learn=Learn(levels=partial(schedules.cosine_time, reach=reach), weight=weight),
        draw=Draw(sampler=sampler, grid=grid, steps=steps, data_std=1.0, clip=(-1.0, 1.0) if clip else None),
        bound=Bound(levels=grid(steps)[:-1].flip(0)),
        conditions=conditions,
        hide=hide,
        optim=optim,
    )


def super_resolution(
    plain: Denoising, factor: int, *, most: float = math.inf, power: float = 1.0, blur: float = 0.0
) -> Denoising:
    """The same model, given the low-resolution twins of its images.

    The twin is joined to the network's input; training adds noise to it, and the network is given the noise's level.

    Args:
        plain: a model such as that of `base`, whose network has a place for `Cond.image`, and for 1 of `Cond.numbers` unless `most`
            is 0; it is changed.
        factor: pixels of a side that become one pixel of the twin.
        most, power: the highest level of the twin's noise in training, and how levels are distributed; see `low_resolution.Twins`.
        blur: share of the twins that are blurred in training: 0.5 in the paper at 128 and 256 pixels.

    Raises:
        ValueError: the images cannot be made smaller by this factor, or training changes them in another way already.
    """
    if plain.learn is None or plain.learn.augment is not None:
        raise ValueError("Super-resolution needs a model with 'learn' and without another augmentation.")
    shape = tuple(low(torch.empty(1, *plain.shape), factor).shape[1:])
    own = plain.conditions
    plain.learn = replace(plain.learn, augment=Twins(shape, most, power, blur))
    plain.conditions = lambda batch: replace(own(batch), image=low(batch["x"], factor))
    return plain


class Cascade(Staged):
    """A base model and super-resolution models that train one after another on images of one data set, each at its own size.

    Samples are drawn stage by stage: the images of one stage get noise of a level (non-truncated conditioning), or are left with
    that noise (truncated: the stage stops there), and become the next one's condition.

    Args:
        stages: the base, then models of `super_resolution` by rising size; all take the same labels, or none does.
        levels: of the noise that each super-resolution model's condition gets when samples are drawn; (0.0, ...) by default.
        truncated: whether a stage's sampling stops at that level.

    Raises:
        ValueError: there is no super-resolution model, the sizes do not fit, or the levels are not as many or not as in training.
    """

    def __init__(self, stages: tuple[Stage, ...], *, levels: tuple[float, ...] = (), truncated: bool = False) -> None:
        super().__init__(stages)
        if len(stages) < 2:
            raise ValueError("A cascade needs a base and at least one super-resolution model.")
        for below, above in itertools.pairwise(self.parts):
            if twin_of(above).shape != below.shape:
                raise ValueError(
                    f"A stage of a cascade draws images of shape {below.shape}, but the next one needs {twin_of(above).shape}."
                )
        self.levels, self.truncated = levels or (0.0,) * (len(stages) - 1), truncated
        if len(self.levels) != len(stages) - 1:
            raise ValueError(
                f"A cascade of {len(stages)} stages has {len(stages) - 1} noise levels, not {len(self.levels)}."
            )
        for part, level in zip(self.parts[1:], self.levels, strict=True):
            twin_of(part).check(level)

    @property
    def parts(self) -> list[Denoising]:
        """The base and the super-resolution models."""
        return [stage.model for stage in self.stages]  # type: ignore[misc]

    @property
    def sampled(self) -> Cascade:
        """The whole cascade."""
        return self

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of the images that `Cond.image` may hold in the base's place."""
        return self.parts[0].shape

    @property
    def hide(self) -> Mapping[str, float]:
        """The conditions that were hidden in training, by which samples can be guided."""
        return self.parts[0].hide

    @property
    def samplers(self) -> list[str]:
        """The names of the samplers that every stage can be sampled by."""
        return [name for name in self.last.samplers if all(name in part.samplers for part in self.parts)]  # type: ignore[union-attr]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Those of the part in training, on images of its size."""
        return super().losses({**batch, "x": low(batch["x"], self.shape[1] // self.part.shape[1])})

    def sample(
        self,
        n: int,
        cond: Tensor | Cond | None = None,
        *,
        rng: torch.Generator | None = None,
        level: float | None = None,
        steps: int | None = None,
        sampler: str | None = None,
        grid: str | None = None,
        guidance: float = 0.0,
        churn: Mapping[str, float] | None = None,
        batch: int = 256,
    ) -> Tensor:
        """Draws [n, *D] of the last stage, on the device of the model.

        Args:
            cond: labels [n], or conditions of n examples. An image takes the base's place, or that of the stage that draws its size; it
                gets no noise, unless `level` asks for some.
            level: of the noise of every condition, in place of `levels`.
            steps, sampler, grid, guidance, churn, batch: of every stage, see `Denoising.sample`.

        Raises:
            ValueError: as `Denoising.sample`; or the level is not as in training, or no stage draws images of the given size.
        """
        given = as_cond(cond).to(self.device)
        options = {
            "steps": steps,
            "sampler": sampler,
            "grid": grid,
            "guidance": guidance,
            "churn": churn,
            "batch": batch,
        }
        levels = [*(self.levels if level is None else (level,) * len(self.levels)), 0.0]
        first, x = 0, given.image
        if x is not None:
            first = self._stage_of(x)
            levels[first] = level or 0.0
        for k in range(0 if x is None else first + 1, len(self.parts)):
            own, part = given, self.parts[k]
            if x is not None:
                noisy = self.truncated and not (k == first + 1 and given.image is not None)
                own, twin, s = replace(given, image=x), twin_of(part), levels[k - 1]
                own = twin.with_noise(own, s) if noisy else twin.at(own, s, rng)
            x = part.sample(n, own, rng=rng, until=levels[k] if self.truncated else 0.0, **options)  # type: ignore[arg-type]
        assert x is not None
        return x

    def _stage_of(self, image: Tensor) -> int:
        """Index of the stage that draws images of this size; the last one does not count.

        Raises:
            ValueError: there is none.
        """
        sizes = [part.shape for part in self.parts[:-1]]
        if tuple(image.shape[1:]) not in sizes:
            fits = " or ".join(" x ".join(map(str, size)) for size in sizes)
            raise ValueError(
                f"This cascade continues from images of {fits} (channels, height, width), not of {' x '.join(map(str, image.shape[1:]))}."
            )
        return sizes.index(tuple(image.shape[1:]))


def twin_of(part: nn.Module) -> Twins:
    """What a super-resolution model does to its condition.

    Raises:
        ValueError: it is none.
    """
    twin = part.learn.augment if isinstance(part, Denoising) and part.learn else None
    if not isinstance(twin, Twins):
        raise ValueError("The stages of a cascade after the base must be models of `super_resolution`.")
    return twin
