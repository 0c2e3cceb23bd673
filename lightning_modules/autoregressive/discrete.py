"""The base class of autoregressive models of discrete values: likelihoods, and samples drawn one value after the other.

Source: van den Oord et al. 2016, arXiv:1601.06759, section 2.1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_modules import draws, objectives
from lightning_modules.conditions import one_hot, without_labels
from lightning_modules.model import Batch, Generative, evaluating
from lightning_modules.optim import Adam, Optim


class Discrete(Generative):
    """A model of data whose values each take one of `levels`, evenly spaced from -1 to 1, and depend on the values before them.

    Subclasses define `logits` and `sample_fast`, and `order` where it is not that of the flattened example.

    Args:
        shape: of an example.
        levels: of each value.
        classes: number of labels that condition the model; 0: none.
        optim: optimiser and schedule.

    Raises:
        ValueError: fewer than two levels.
    """

    def __init__(self, shape: tuple[int, ...], *, levels: int, classes: int = 0, optim: Optim = Adam()) -> None:
        super().__init__()
        if levels < 2:
            raise ValueError(f"A number takes at least 2 levels, not {levels}.")
        self.shape, self.levels, self.classes, self.optim = tuple(shape), levels, classes, optim

    def logits(self, x: Tensor, cond: Tensor | None) -> Tensor:
        """Unnormalised log probabilities [B, *shape, levels] of each value, given the values of x [B, *shape] before it."""
        raise NotImplementedError(f"{type(self).__name__} has no logits")

    def sample_fast(self, uniform: Tensor, cond: Tensor | None) -> Tensor:
        """Levels [n, *shape], drawn by uniform values [n, `uniforms`] without computing anything twice."""
        raise NotImplementedError(f"{type(self).__name__} has no fast sampler")

    @property
    def uniforms(self) -> int:
        """How many uniform values draw an example: one for each of its values."""
        return math.prod(self.shape)

    def order(self) -> Tensor:
        """The order [D] in which values are drawn: indices into a flattened example."""
        return torch.arange(math.prod(self.shape))

    # ---- levels

    def level(self, x: Tensor) -> Tensor:
        """The level, long, of each value of x [B, *shape].

        Raises:
            ValueError: x is not of the model's shape, or holds a value that is no level.
        """
        self.of_shape(x)
        at = (x + 1) * ((self.levels - 1) / 2)
        found = at.round()
        if x.device.type == "cpu" and not ((found - at).abs().amax() < 0.1 and at.amin() > -0.1 and self.within(at)):
            raise ValueError(
                f"{type(self).__name__} takes {self.levels} levels, evenly spaced from -1 to 1, and was given others."
            )
        return found.long().clamp_(0, self.levels - 1)

    def within(self, at: Tensor) -> bool:
        """Whether no value is above the highest level."""
        return bool(at.amax() < self.levels - 0.9)

    def value(self, level: Tensor) -> Tensor:
        """The value in [-1, 1] of each level."""
        return level.to(self.dtype) * (2 / (self.levels - 1)) - 1

    def one_hot(self, label: Tensor | None) -> Tensor | None:
        """Labels [B] as [B, classes]; None where the model is not conditioned.

        Raises:
            ValueError: the model is conditioned and there are no labels.
        """
        hot = one_hot(label, self.classes, type(self).__name__)
        return None if hot is None else hot.to(self.dtype)

    # ---- likelihood

    def nats(self, x: Tensor, cond: Tensor | None) -> Tensor:
        """Log probability of each value of x [B, *shape] given those before it, [B, D]."""
        logs = self.logits(x, cond).log_softmax(-1)
        return logs.gather(-1, self.level(x)[..., None])[..., 0].flatten(1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {"nll": -self.nats(batch["x"], batch.get("label")).mean()}

    def log_prob(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """Exact log probability [B] in nats.

        Args:
            x: examples [B, *shape].
            cond: labels [B].
        """
        without_labels(cond, self.classes)
        with evaluating(self):
            return self.nats(x, cond).sum(1)

    def bits_per_dim(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """Exact code length [B] in bits per dimension."""
        return objectives.bits_per_dim(self.log_prob(x, cond), x[0].numel())

    # ---- samples

    @torch.inference_mode()
    def sample(
        self, n: int, cond: Tensor | None = None, *, rng: torch.Generator | None = None, naive: bool = False
    ) -> Tensor:
        """Draws [n, *shape].

        Args:
            n: how many.
            cond: labels [n]; without them, a conditioned model takes its classes in turn.
            rng: source of randomness; None: torch's own.
            naive: compute the whole model for each value: the definition, against which the fast sampler is tested.
        """
        without_labels(cond, self.classes)
        uniform = draws.uniform(n, self.uniforms, rng=rng)
        if self.classes and cond is None:
            cond = torch.arange(n, device=self.device) % self.classes
        draw = self.sample_naive if naive else self.sample_fast
        with evaluating(self):
            return self.value(draw(uniform.to(self.device, self.dtype), cond))

    def sample_naive(self, uniform: Tensor, cond: Tensor | None) -> Tensor:
        """As `sample_fast`, by one whole pass for each value."""
        found = torch.zeros(len(uniform), *self.shape, dtype=torch.long, device=uniform.device)
        for i in self.order().tolist():
            logits = self.logits(self.value(found), cond).flatten(1, -2)[:, i]
            found.flatten(1)[:, i] = sample_categorical(logits, uniform[:, i])
        return found


def sample_categorical(logits: Tensor, uniform: Tensor) -> Tensor:
    """Levels [n] of the categorical distributions with logits [n, levels], by inversion of uniform values [n] in [0, 1)."""
    ends = logits.softmax(1).cumsum(1)
    return torch.searchsorted(ends, uniform[:, None].contiguous())[:, 0].clamp_(max=logits.shape[1] - 1)
