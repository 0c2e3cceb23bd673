"""The one class of diffusion models, composed of the parts in this package.

Each system fills it with a function in a file of its own, which names the paper and says where it differs (`models/ddpm.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules import objectives
from lightning_modules.conditions import UNCONDITIONAL, Cond, as_cond, from_batch
from lightning_modules.diffusion import augmentation, coupling, guidance, preconditioning, schedules, targets, weighting
from lightning_modules.diffusion.bound import Decoder, log_prob_bound
from lightning_modules.diffusion.preconditioning import Denoiser, Preconditioning
from lightning_modules.diffusion.samplers import chain
from lightning_modules.diffusion.samplers.ancestral import ancestral
from lightning_modules.diffusion.samplers.names import GRIDS, SAMPLERS, churned, named
from lightning_modules.diffusion.spaces import MOMENTS, OfMoments, Pixels, Space
from lightning_modules.diffusion.steps import Step, Variance, reverse
from lightning_modules.model import Batch, Generative, evaluating
from lightning_modules.nets.embed import check_known
from lightning_modules.optim import Adam, Optim
from lightning_modules.start import load_parts

Net = Callable[[Tensor, Tensor, Cond], Tensor]
"""(c_in y [B, *D], level [B], conditions) -> [B, *D]; an `nn.Module` such as `nets.unet.UNet`."""
LevelInput = Callable[[Tensor], Tensor]
"""sigma [B] -> what the network is given about the noise level, [B]; c_noise of Karras et al. 2022."""


@dataclass(frozen=True, kw_only=True)
class Learn:
    """How a denoiser D is trained: the loss is E[weight(sigma) distance(D(y, sigma), target)]."""

    levels: Callable[[Tensor], Tensor]
    """u [B], uniform in [0, 1) -> levels sigma [B]."""
    weight: Callable[[Tensor], Tensor] = weighting.simple
    """sigma [B] -> weight [B] of the distance."""
    target: targets.Target = targets.clean
    """What D(y, sigma) is to answer."""
    distance: targets.Distance = targets.squared
    """Between the answer and the target."""
    couple: coupling.Coupling = coupling.independent
    """The noise that each example is paired with."""
    augment: augmentation.Augment | None = None
    """Changes of the examples or conditions that the network is given as `Cond.numbers`, so that samples are not changed."""
    name: str = "denoising"
    """Under which the loss is logged."""


@dataclass(frozen=True, kw_only=True)
class Draw:
    """How examples are drawn."""

    sampler: chain.Sampler | None
    """From noise to data with the denoiser; None: draws of the model's own reverse steps (`samplers.ancestral`)."""
    grid: Callable[[int], Tensor]
    """Steps N -> levels [N + 1], descending, the last 0."""
    steps: int
    """N, unless the caller of `Denoising.sample` asks for another."""
    data_std: float
    """Of the data, as the start of sampling takes it (`samplers.chain.start`)."""
    clip: tuple[float, float] | None = None
    """The range to which estimates of x0 are clipped."""
    dynamic: float | None = None
    """Percentile p of dynamic thresholding, in [0, 100], which then takes the place of clipping (`guidance.thresholded`)."""
    guide: guidance.Guide = guidance.guided
    """Makes a guided denoiser of the one with conditions and the one without."""
    classifier: guidance.LogLabel | None = None
    """A noisy classifier, whose gradient guides in place of `guide`; the network need not take the labels then."""
    consistent: bool = False
    """Whether the model maps every y of one path to the same x0 (consistency models), so that only `multistep` samples it."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The parts of the variational bound on the log likelihood."""

    levels: Tensor
    """Table [T], ascending, float64."""
    variance: Variance = schedules.posterior
    """Of the reverse steps."""
    decoder: Decoder = objectives.gaussian_log_prob
    """Log probability of x0 at the end."""


def unconditional(batch: Batch) -> Cond:
    """No conditions, whatever the batch holds."""
    return UNCONDITIONAL


def by_label(drop: float | None) -> tuple[Callable[[Batch], Cond], dict[str, float]]:
    """`conditions` and `hide` of a model of labels, which are hidden for a share `drop` of the examples; None: a model without labels."""
    return (unconditional, {}) if drop is None else (from_batch("label"), {"label": drop})


def by_caption(drop: float) -> tuple[Callable[[Batch], Cond], dict[str, float]]:
    """`conditions` and `hide` of a model of captions, which are empty for a share `drop` of the examples.

    Raises:
        ValueError: `drop` is not in (0, 1).
    """
    if not 0 < drop < 1:
        raise ValueError(f"Guidance needs captions that are empty for a share between 0 and 1, not {drop}.")
    return of_captions, {"tokens": drop}


def of_captions(batch: Batch) -> Cond:
    """The captions of a batch as conditions.

    Raises:
        ValueError: it has none.
    """
    if "caption" not in batch:
        raise ValueError("This model needs data with captions.")
    return Cond(tokens=batch["caption"])


class Denoising(Generative):
    """A model that learns to estimate x0 from y = x0 + sigma n, and draws by removing noise step by step.

    Args:
        net: F of the denoiser D(y, sigma) = c_skip y + c_out F(c_in y, level_input(sigma), conditions), see `Net`.
        shape: of an example.
        level_input: what the network is given about the noise level.
        precondition: what the network predicts.
        learn: levels, weight, target and distance of the loss; None where a subclass has `losses` of its own.
        draw: sampler and grid.
        bound: of the log likelihood; None: that of the sampler's grid, with the posterior's variance and a Gaussian decoder.
        space: where the diffusion takes place: `Pixels`, or a first stage, which does not train here.
        conditions: batch -> conditions of the model.
        hide: condition -> share of the examples for which it is hidden in training, so that it can be guided.
        optim: of the weights that are trained.
        trained: path of the submodule whose weights are trained and averaged: the network, or a part of it.
    """

    def __init__(
        self,
        net: nn.Module,
        shape: tuple[int, ...],
        *,
        level_input: LevelInput,
        precondition: Preconditioning,
        learn: Learn | None = None,
        draw: Draw,
        bound: Bound | None = None,
        space: Space | None = None,
        conditions: Callable[[Batch], Cond] = unconditional,
        hide: Mapping[str, float] | None = None,
        optim: Optim = Adam(2e-4),  # frozen
        trained: str = "net",
    ) -> None:
        super().__init__()
        self.net, self.shape = net, tuple(shape)
        self.trained, self.averaged = trained, f"{trained}."
        self.level_input, self.precondition = level_input, precondition
        self.learn, self.draw = learn, draw
        self.bound = bound or Bound(levels=draw.grid(draw.steps)[:-1].flip(0))
        self.space = space or Pixels()
        self.conditions, self.hide = conditions, dict(hide or {})
        self.optim = optim

    def denoiser(self, cond: Tensor | Cond | None = None) -> Denoiser:
        """The denoiser D given conditions (or labels [B]), or none; of examples that are not augmented, unless `cond` says how."""
        given, augment = as_cond(cond), self.learn.augment if self.learn else None

        def net(y: Tensor, sigma: Tensor) -> Tensor:
            whole = given if augment is None or given.numbers is not None else augment.unchanged(given, y)
            return self.net(y, self.level_input(sigma), whole)

        return preconditioning.denoiser(net, self.precondition)

    def step(self, denoise: Denoiser, cond: Cond) -> Step:
        """The reverse step of the bound and of ancestral sampling, with this estimate of x0."""
        return reverse(denoise, self.bound.variance)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The one loss [] of the batch, under the name `learn.name`.

        Raises:
            ValueError: the model was built without `learn`.
        """
        learn = self.learn
        if learn is None:
            raise ValueError(f"{type(self).__name__} was built without 'learn', by which it would be trained.")
        with torch.no_grad():
            x0, cond = self._clean(batch, learn)
        sigma = learn.levels(self.draws.uniform(len(x0), device=x0.device)).to(x0)
        x0, n = learn.couple(x0, batch, self.draws)
        loss = targets.denoising_loss(
            self.denoiser(self._some_hidden(cond)),
            x0,
            sigma,
            n,
            learn.weight(sigma),
            target=learn.target,
            distance=learn.distance,
        )
        return {learn.name: loss.mean()}

    def _clean(self, batch: Batch, learn: Learn) -> tuple[Tensor, Cond]:
        """x0 [B, *D] in the space of the diffusion, augmented, and the conditions.

        A batch may hold the first stage's 'moments' in place of examples (`datamodules.latents`).
        """
        cond = self.conditions(batch)
        if MOMENTS in batch and isinstance(self.space, OfMoments):
            return self.space.of_moments(batch[MOMENTS], self.draws), cond
        x = self.in_range(batch["x"])
        if learn.augment is not None:
            x, cond = learn.augment(x, cond, self.draws)
        return self.space.encode(x, self.draws), cond

    def in_range(self, x: Tensor) -> Tensor:
        """x [B, *D], unchanged, after the check of `fitting`: where estimates of pixels are clipped to [-1, 1], those are grey levels."""
        return self.fitting(x, int(self.draw.clip == (-1.0, 1.0) and isinstance(self.space, Pixels)))

    def _some_hidden(self, cond: Cond) -> Cond:
        """The conditions of a batch, each hidden for its share of the examples."""
        if not self.hide:
            return cond
        rows = {k: self.draws.uniform(len(v := getattr(cond, k)), device=v.device) < p for k, p in self.hide.items()}
        return cond.hiding(rows)

    def sample(
        self,
        n: int,
        cond: Tensor | Cond | None = None,
        *,
        rng: torch.Generator | None = None,
        steps: int | None = None,
        sampler: str | None = None,
        grid: str | None = None,
        guidance: float = 0.0,
        churn: Mapping[str, float] | None = None,
        until: float = 0.0,
        batch: int = 256,
    ) -> Tensor:
        """Draws [n, *D], on the device of the model.

        Args:
            cond: conditions of n examples, or labels [n].
            steps: of the sampler; None: as `draw` has it.
            sampler: one of `samplers.names.SAMPLERS`; None: that of `draw`.
            grid: one of `samplers.names.GRIDS`, over the levels of the bound; None: that of `draw`.
            churn: settings of `samplers.edm.heun` by name, in place of the sampler's own.
            until: the noise level at which sampling stops, with y of that level in place of x0.
            guidance: strength of the guidance by the conditions that were hidden in training, or by the classifier; 0: none.
            batch: examples drawn at once.

        Raises:
            ValueError: there is no such sampler or grid, or it does not fit the model; the grid has no such number of steps;
                the conditions are not of n examples or not among those that the network was built with; a label is no class;
                guidance is asked without conditions, or of a model that hid none in training and has no classifier.
        """
        draw, given = self.draw_by(sampler, grid, churn), as_cond(cond).to(self.device)
        if given.size not in (None, n):
            raise ValueError(f"{n} examples are to be drawn, but the conditions are of {given.size}.")
        if guidance:
            self._check_guidance(given)
        check_known(self.net, given)
        if steps is not None and steps < 1:
            raise ValueError(f"Sampling takes at least 1 step, not {steps}.")
        levels = chain.cut(draw.grid(draw.steps if steps is None else steps), until)
        parts = [(min(batch, n - i), given.rows(slice(i, i + batch))) for i in range(0, n, batch)]
        return torch.cat([self._draw(draw, k, part, levels, guidance, rng) for k, part in parts])

    def draw_by(
        self, sampler: str | None = None, grid: str | None = None, churn: Mapping[str, float] | None = None
    ) -> Draw:
        """How examples are drawn, with another sampler or grid by its name, or other settings of churn.

        Raises:
            ValueError: there is none of that name, the model cannot be sampled by it, or the sampler has no churn.
        """
        found = self.draw
        if sampler is not None:
            if sampler not in self.samplers:
                named("sampler", sampler, SAMPLERS)
                raise ValueError(f"This model cannot be sampled by '{sampler}': take {', '.join(self.samplers)}.")
            found = replace(found, sampler=SAMPLERS[sampler])
        if churn:
            found = replace(found, sampler=churned(found.sampler, churn))
        if grid is not None:
            found = replace(found, grid=partial(named("grid", grid, GRIDS), self.bound.levels))
        return found

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape (C, h, w) of the low-resolution images that samples are drawn from; () where they are drawn from none."""
        return getattr(self.learn and self.learn.augment, "shape", ())

    @property
    def samplers(self) -> list[str]:
        """The names of the samplers that this model can be sampled by."""
        return [name for name in SAMPLERS if (name == "multistep") == self.draw.consistent]

    def _check_guidance(self, cond: Cond) -> None:
        if not self.draw.classifier and not any(self.hide.values()):
            raise ValueError("Guidance needs a model that hid its conditions for some examples in training.")
        if cond.size is None:
            wanted = ["a prompt" if name == "tokens" else name for name in self.hide or ["label"]]
            raise ValueError(f"Guidance needs conditions to follow: give {' or '.join(wanted)}.")

    def _draw(
        self, draw: Draw, n: int, cond: Cond, grid: Tensor, strength: float, rng: torch.Generator | None
    ) -> Tensor:
        by = guidance.given(draw.classifier, cond) if draw.classifier and strength else None
        if by and self.conditions is unconditional:
            cond = UNCONDITIONAL
        denoise = self.denoiser(cond)
        if by and draw.sampler:
            denoise = guidance.classifier_guided(denoise, by, strength)
        elif strength and not by:
            denoise = draw.guide(denoise, self.denoiser(cond.without(*self.hide)), strength)
        if draw.dynamic is not None:
            denoise = guidance.thresholded(denoise, draw.dynamic)
        elif draw.clip:
            denoise = guidance.clipped(denoise, *draw.clip)
        like = torch.empty(n, *self.space.latent_shape(self.shape), device=self.device, dtype=self.dtype)  # type: ignore[arg-type]
        y = chain.start(like, grid, data_std=draw.data_std, rng=rng)
        with evaluating(self), torch.no_grad():
            if draw.sampler:
                return self.space.decode(draw.sampler(denoise, y, grid, rng=rng))
            step = self.step(denoise, cond)
            step = guidance.classifier_shifted(step, by, strength) if by else step
            return self.space.decode(ancestral(step, y, grid, rng=rng))

    def log_prob(
        self,
        x: Tensor,
        cond: Tensor | Cond | None = None,
        *,
        terms: int | None = None,
        rng: torch.Generator | None = None,
    ) -> Tensor:
        """A lower bound [B] on log p(x) in nats: the variational bound, with one noise for each term.

        Args:
            x: [B, *D].
            cond: conditions of the B examples, or labels [B].
            terms: steps evaluated for each example, chosen without bias; None: all.

        Raises:
            ValueError: the diffusion takes place in another space than that of x, or as `in_range`.
        """
        if not isinstance(self.space, Pixels):
            raise ValueError(
                f"A diffusion in the space of {type(self.space).__name__} has no bound on the density of x."
            )
        given = as_cond(cond).to(x.device)
        with evaluating(self):
            return log_prob_bound(
                self.step(self.denoiser(given), given),
                self.in_range(x),
                self.bound.levels.to(x.device),
                decoder=self.bound.decoder,
                data_std=self.draw.data_std,
                terms=terms,
                rng=rng,
            )

    def bits_per_dim(self, x: Tensor, *, terms: int | None = None, rng: torch.Generator | None = None) -> Tensor:
        """An upper bound [B] on the code length of x in bits per dimension."""
        return objectives.bits_per_dim(self.log_prob(x, terms=terms, rng=rng), x[0].numel())

    def start(self, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Load weights of other runs into parts of this model; see `start.load_parts`."""
        load_parts(self, parts)

    def train(self, mode: bool = True) -> Denoising:
        """As in torch, but a first stage stays in evaluation mode."""
        super().train(mode)
        if isinstance(self.space, nn.Module):
            self.space.eval()
        return self

    def configure_optimizers(self) -> Any:
        """The optimiser of the weights that are trained."""
        return self.optim.of(self.get_submodule(self.trained))
