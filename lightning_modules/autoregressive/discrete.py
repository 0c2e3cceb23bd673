"""What all autoregressive models of discrete numbers share: likelihoods, and samples one number after the other.

Source: van den Oord et al. 2016, arXiv:1601.06759, section 2.1.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules import objectives, optim
from lightning_modules.model import Batch, Generative, evaluating


class Discrete(Generative):
    """Data each of whose numbers is one of `levels`, evenly spaced from -1 to 1, and is told from those before it.

    Subclasses write `logits` and `fill`; `places` is the order.

    Args:
        shape: of an example.
        levels: of each number.
        classes: number of labels that condition the model; 0: none.
        lr, warmup: of Adam; steps over which the learning rate rises.

    Raises:
        ValueError: fewer than two levels.
    """

    def __init__(
        self, shape: tuple[int, ...], *, levels: int, classes: int = 0, lr: float = 1e-3, warmup: int = 0
    ) -> None:
        super().__init__()
        if levels < 2:
            raise ValueError(f"A number takes at least 2 levels, not {levels}.")
        self.shape, self.levels, self.classes = tuple(shape), levels, classes
        self.lr, self.warmup = lr, warmup

    def logits(self, x: Tensor, cond: Tensor | None) -> Tensor:
        """Unnormalised log probabilities [B, *shape, levels], each told from the numbers of x [B, *shape] before it."""
        raise NotImplementedError(f"{type(self).__name__} has no logits")

    def fill(self, even: Tensor, cond: Tensor | None) -> Tensor:
        """Levels [n, *shape], picked by uniform numbers `even` [n, D] without computing anything twice."""
        raise NotImplementedError(f"{type(self).__name__} has no quick sampler")

    def places(self) -> Tensor:
        """The order [D] in which numbers are told: indices into a flattened example."""
        return torch.arange(math.prod(self.shape))

    # ---- levels

    def level(self, x: Tensor) -> Tensor:
        """Which level each number is, long.

        Raises:
            ValueError: x is not of the model's shape, or holds what is no level.
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
        return bool(at.amax() < self.levels - 0.9)

    def value(self, level: Tensor) -> Tensor:
        """What number each level is."""
        return level.to(self.dtype) * (2 / (self.levels - 1)) - 1

    def told(self, label: Tensor | None) -> Tensor | None:
        """Labels [B] one-hot.

        Raises:
            ValueError: the model is conditioned and there are no labels.
        """
        if not self.classes:
            return None
        if label is None:
            raise ValueError(f"{type(self).__name__} was built with {self.classes} classes: give the labels.")
        return F.one_hot(label, self.classes).to(self.dtype)

    # ---- likelihood

    def nats(self, x: Tensor, cond: Tensor | None) -> Tensor:
        """Log probability of each number, [B, D]."""
        logs = self.logits(x, cond).log_softmax(-1)
        return logs.gather(-1, self.level(x)[..., None])[..., 0].flatten(1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {"nll": -self.nats(batch["x"], batch.get("label")).mean()}

    def log_prob(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """Exact log probability [B] in nats.

        Args:
            cond: labels [B].
        """
        with evaluating(self):
            return self.nats(x, cond).sum(1)

    def bits_per_dim(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """Exact code length [B] in bits per number."""
        return objectives.bits_per_dim(self.log_prob(x, cond), x[0].numel())

    # ---- samples

    @torch.inference_mode()
    def sample(
        self, n: int, cond: Tensor | None = None, *, rng: torch.Generator | None = None, naive: bool = False
    ) -> Tensor:
        """Draws [n, *shape].

        Args:
            cond: labels [n]; a conditioned model without them takes its classes in turn.
            naive: compute the whole model for each number: the definition, to be compared with.
        """
        even = torch.rand(n, math.prod(self.shape), generator=rng, device=rng.device if rng else "cpu")
        if self.classes and cond is None:
            cond = torch.arange(n, device=self.device) % self.classes
        with evaluating(self):
            return self.value((self.naive if naive else self.fill)(even.to(self.device, self.dtype), cond))

    def naive(self, even: Tensor, cond: Tensor | None) -> Tensor:
        """As `fill`, by one whole pass for each number."""
        found = torch.zeros(len(even), *self.shape, dtype=torch.long, device=even.device)
        for place in self.places().tolist():
            logits = self.logits(self.value(found), cond).flatten(1, -2)[:, place]
            found.flatten(1)[:, place] = pick(logits, even[:, place])
        return found

    def configure_optimizers(self) -> dict[str, Any]:
        return optim.adam(self, self.lr, warmup=self.warmup)


def pick(logits: Tensor, even: Tensor) -> Tensor:
    """Levels [n] whose share of the unit interval holds the numbers `even` [n]; logits [n, levels]."""
    ends = logits.softmax(1).cumsum(1)
    return torch.searchsorted(ends, even[:, None].contiguous())[:, 0].clamp_(max=logits.shape[1] - 1)
