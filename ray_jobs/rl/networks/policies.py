"""Policies: families of action distributions, parametrised by the outputs of a network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ray_jobs.rl.maths import draws


class Policy(Protocol):
    """A family of action distributions; a network outputs their parameters `out` [B, `outputs`]."""

    outputs: int

    def sample(self, out: Tensor, rng: torch.Generator) -> Tensor:
        """Actions [B, *A] drawn from the distributions."""
        ...

    def mode(self, out: Tensor) -> Tensor:
        """The likeliest actions [B, *A]."""
        ...

    def log_prob(self, out: Tensor, action: Tensor) -> Tensor:
        """log pi(action) [B] in nats."""
        ...

    def entropy(self, out: Tensor) -> Tensor:
        """[B] in nats"""
        ...

    def kl(self, old_out: Tensor, new_out: Tensor, old: Policy | None = None) -> Tensor:
        """KL(old || new) [B] in nats, exact.

        Args:
            old: the policy as it was, where parameters of its own have moved since (a Gaussian's deviations); no gradient
                reaches them. None takes today's.
        """
        ...


def normal(out: Tensor, rng: torch.Generator) -> Tensor:
    """Standard normal numbers of out's shape, on its device."""
    return draws.normal(out.shape, rng).to(out.device)


def add_gumbel_noise(out: Tensor, rng: torch.Generator) -> Tensor:
    """Logits plus Gumbel noise: an index is the largest with its softmax probability."""
    return out - draws.exponential(out.shape, rng).log_().to(out.device)


def log_softmax(out: Tensor) -> Tensor:
    """Along the last dimension. By torch's kernel for any other, which takes a fifth of the time where there are few choices."""
    return out.movedim(-1, 0).log_softmax(0).movedim(0, -1)


class Categorical(nn.Module):
    """Actions 0..n-1 with probabilities softmax(out)."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.outputs = n

    def sample(self, out: Tensor, rng: torch.Generator) -> Tensor:
        return add_gumbel_noise(out, rng).argmax(-1)

    def mode(self, out: Tensor) -> Tensor:
        return out.argmax(-1)

    def log_prob(self, out: Tensor, action: Tensor) -> Tensor:
        return log_softmax(out).gather(-1, action[..., None]).squeeze(-1)

    def entropy(self, out: Tensor) -> Tensor:
        logp = log_softmax(out)
        return -(logp.exp() * logp).sum(-1)

    def kl(self, old_out: Tensor, new_out: Tensor, old: Policy | None = None) -> Tensor:
        before, after = log_softmax(old_out), log_softmax(new_out)
        return (before.exp() * (before - after)).sum(-1)


class MultiCategorical(nn.Module):
    """Independent choices [*, k] among 0..n_i - 1; `out` holds their logits side by side."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.each = nn.ModuleList(Categorical(int(n)) for n in sizes)
        self.sizes = [part.outputs for part in self.each]
        self.outputs = sum(self.sizes)

    def split(self, *outs: Tensor) -> Iterator[tuple]:
        """For each choice: its distribution and its logits in every one of `outs`."""
        return zip(self.each, *(x.split(self.sizes, -1) for x in outs), strict=True)

    def sample(self, out: Tensor, rng: torch.Generator) -> Tensor:
        return self.mode(add_gumbel_noise(out, rng))

    def mode(self, out: Tensor) -> Tensor:
        return torch.stack([x.argmax(-1) for _, x in self.split(out)], -1)

    def log_prob(self, out: Tensor, action: Tensor) -> Tensor:
        pairs = zip(self.split(out), action.unbind(-1), strict=True)
        return sum(part.log_prob(x, a) for (part, x), a in pairs)

    def entropy(self, out: Tensor) -> Tensor:
        return sum(part.entropy(x) for part, x in self.split(out))

    def kl(self, old_out: Tensor, new_out: Tensor, old: Policy | None = None) -> Tensor:
        return sum(part.kl(x, y) for part, x, y in self.split(old_out, new_out))


def normal_log_prob(z: Tensor, log_std: Tensor) -> Tensor:
    """Log density [B] of independent normals at z [B, A] deviations from their means."""
    return -(0.5 * z.square() + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)


def normal_entropy(log_std: Tensor) -> Tensor:
    """Of independent normals with log deviations [*, A], in nats."""
    return (log_std + 0.5 * math.log(2 * math.pi) + 0.5).sum(-1)


def normal_kl(old_mean: Tensor, old_log_std: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(old || new) [B] of independent normals."""
    wider, shift = old_log_std - log_std, (old_mean - mean) * (-log_std).exp()
    return (0.5 * (torch.expm1(2 * wider) + shift.square()) - wider).sum(-1)


NEAR = 0.5, 2.0
"""Half-widths of a Box around 0 that a standard normal fits: its dimensions keep their own units."""


class Units(nn.Module):
    """Maps vectors [*, A] into a Box: -1 and 1 are its bounds.

    A dimension keeps its own units where it has no bounds, or where a standard normal fits it as it is: its centre is 0, and its
    half-width is between 0.5 and 2.
    """

    def __init__(self, action: gym.spaces.Box) -> None:
        super().__init__()
        low, high = (np.asarray(x, np.float64).ravel() for x in (action.low, action.high))
        bounded = np.isfinite(low) & np.isfinite(high) & (low < high)
        low, high = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
        centre, reach = (low + high) / 2, (high - low) / 2
        kept = ~bounded | ((centre == 0) & (reach >= NEAR[0]) & (reach <= NEAR[1]))
        self.trivial = bool(kept.all())
        self.register_buffer("centre", torch.tensor(np.where(kept, 0.0, centre)).float(), persistent=False)
        self.register_buffer("reach", torch.tensor(np.where(kept, 1.0, reach)).float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x if self.trivial else torch.addcmul(self.centre, self.reach, x)

    def inverse(self, action: Tensor) -> Tensor:
        """The vector [*, A] of an action [*, A]."""
        return action if self.trivial else (action - self.centre) / self.reach

    def log_slope(self) -> Tensor | float:
        """Log of the map's derivative []."""
        return 0.0 if self.trivial else self.reach.log().sum()


class Gaussian(nn.Module):
    """Independent normal actions [*, *shape] around `out`, with deviations that do not depend on the observation.

    Args:
        shape: of an action.
        log_std: the deviations' logarithm, at the start.
        box: the space of the actions; `out` and the deviations are in its `Units`. Without it they are in the actions' own.
    """

    def __init__(self, shape: Sequence[int], log_std: float = 0.0, box: gym.spaces.Box | None = None) -> None:
        super().__init__()
        self.shape, self.outputs = tuple(shape), math.prod(shape)
        self.log_std = nn.Parameter(torch.full((self.outputs,), log_std))
        self.units = Units(gym.spaces.Box(-np.inf, np.inf, self.shape) if box is None else box)

    def sample(self, out: Tensor, rng: torch.Generator) -> Tensor:
        return self.mode(out + self.log_std.exp() * normal(out, rng))

    def mode(self, out: Tensor) -> Tensor:
        return self.units(out).reshape(*out.shape[:-1], *self.shape)

    def log_prob(self, out: Tensor, action: Tensor) -> Tensor:
        away = self.units.inverse(action.reshape(out.shape)) - out
        logp = normal_log_prob(away * (-self.log_std).exp(), self.log_std)
        return logp if self.units.trivial else logp - self.units.log_slope()

    def entropy(self, out: Tensor) -> Tensor:
        entropy = normal_entropy(self.log_std).expand(out.shape[:-1])
        return entropy if self.units.trivial else entropy + self.units.log_slope()

    def kl(self, old_out: Tensor, new_out: Tensor, old: Policy | None = None) -> Tensor:
        before = self if old is None else old
        return normal_kl(old_out, before.log_std.detach(), new_out, self.log_std)


class Squash(nn.Module):
    """Maps real vectors [*, A] into a Box [*, *shape] by tanh, scaled to its bounds.

    Raises:
        ValueError: the space is not a Box with finite bounds, low below high.
    """

    def __init__(self, action: gym.Space) -> None:
        super().__init__()
        if not isinstance(action, gym.spaces.Box) or not action.is_bounded() or (action.low >= action.high).any():
            raise ValueError(
                f"The action space {action} cannot be filled by tanh: it must be Box with finite bounds, low below high."
            )
        self.shape, self.n = action.shape, math.prod(action.shape)
        low, high = (torch.as_tensor(np.asarray(x, np.float32).ravel()) for x in (action.low, action.high))
        self.register_buffer("centre", (low + high) / 2, persistent=False)
        self.register_buffer("reach", (high - low) / 2, persistent=False)
        self.register_buffer("low", low.view(action.shape), persistent=False)
        self.register_buffer("high", high.view(action.shape), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.centre, self.reach, x.tanh()).reshape(*x.shape[:-1], *self.shape)

    def inverse(self, action: Tensor) -> Tensor:
        """[*, *shape] -> [*, A]; what lies on the bounds counts as just inside, by the type's precision."""
        y = (action.flatten(action.dim() - len(self.shape)) if self.shape else action[..., None]) - self.centre
        return (y / self.reach).clamp(-1 + torch.finfo(y.dtype).eps, 1 - torch.finfo(y.dtype).eps).atanh()

    def log_slope(self, x: Tensor) -> Tensor:
        """Log of the map's derivative [*, A]; log(1 - tanh^2) in the form that keeps its digits for large |x|."""
        return self.reach.log() + 2 * (math.log(2) - x - F.softplus(-2 * x))


class SquashedGaussian(nn.Module):
    """Independent normals squashed by tanh into a bounded Box; `out` [*, 2A] is their means, then their log deviations.

    Source: Haarnoja et al. 2018, arXiv:1801.01290, appendix C, eq. 21.
    Differs: log deviations are clamped to [-20, 2], as in the authors' code; actions reach the Box's bounds, not +-1.

    Raises:
        ValueError: as `Squash`.
    """

    def __init__(self, action: gym.Space) -> None:
        super().__init__()
        self.squash = Squash(action)
        self.outputs = 2 * self.squash.n

    def mean_and_log_std(self, out: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log deviations, [*, A] each."""
        mean, log_std = out.chunk(2, -1)
        return mean, log_std.clamp(-20.0, 2.0)

    def rsample(self, out: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """An action [*, *shape] and its log density [*], both differentiable in `out`."""
        mean, log_std = self.mean_and_log_std(out)
        z = normal(mean, rng)
        x = torch.addcmul(mean, log_std.exp(), z)
        return self.squash(x), normal_log_prob(z, log_std) - self.squash.log_slope(x).sum(-1)

    def sample(self, out: Tensor, rng: torch.Generator) -> Tensor:
        mean, log_std = self.mean_and_log_std(out)
        return self.squash(torch.addcmul(mean, log_std.exp(), normal(mean, rng)))

    def mode(self, out: Tensor) -> Tensor:
        """The squashed mean: the median, in truth; the mode need not be unique."""
        return self.squash(self.mean_and_log_std(out)[0])

    def log_prob(self, out: Tensor, action: Tensor) -> Tensor:
        """Of actions from elsewhere. Near the bounds their float32 digits are too few: take `rsample`'s where it drew them."""
        (mean, log_std), x = self.mean_and_log_std(out), self.squash.inverse(action)
        return normal_log_prob((x - mean) * (-log_std).exp(), log_std) - self.squash.log_slope(x).sum(-1)

    def entropy(self, out: Tensor) -> Tensor:
        """There is no closed form: the expected log slope is integrated by the trapezoid rule, to 3e-4 nats a dimension."""
        mean, log_std = self.mean_and_log_std(out)
        z = torch.linspace(-6.0, 6.0, 65, device=out.device, dtype=out.dtype).unsqueeze(-1)
        weight = (-0.5 * z.square()).softmax(0)
        slopes = self.squash.log_slope(mean.unsqueeze(-2) + log_std.exp().unsqueeze(-2) * z)
        return normal_entropy(log_std) + (weight * slopes).sum((-2, -1))

    def kl(self, old_out: Tensor, new_out: Tensor, old: Policy | None = None) -> Tensor:
        """That of the normals: a bijection leaves it as it is."""
        return normal_kl(*self.mean_and_log_std(old_out), *self.mean_and_log_std(new_out))


def policy_for(action: gym.Space, log_std: float = 0.0) -> Categorical | MultiCategorical | Gaussian:
    """The policy that fits an action space. A Gaussian acts in a Box's `Units`; its actions may exceed the bounds: the runner clips them.

    Raises:
        ValueError: it is neither Discrete nor MultiDiscrete (from 0) nor Box.
    """
    if isinstance(action, gym.spaces.Discrete) and action.start == 0:
        return Categorical(int(action.n))
    if isinstance(action, gym.spaces.MultiDiscrete) and action.nvec.ndim == 1 and not action.start.any():
        return MultiCategorical(action.nvec.tolist())
    if isinstance(action, gym.spaces.Box):
        return Gaussian(action.shape, log_std, action)
    raise ValueError(
        f"The action space {action} is not supported: "
        "it must be Discrete (starting at 0), MultiDiscrete (one row, starting at 0) or Box."
    )


def noisy(action: Tensor, scale: float, low: Tensor, high: Tensor, rng: torch.Generator) -> Tensor:
    """Actions [*, *A] plus normal noise, clipped to their bounds [*A]; its deviation is `scale` times half their distance.

    Source: Fujimoto et al. 2018, arXiv:1802.09477, algorithm 1.
    """
    return torch.addcmul(action, (high - low) * (scale / 2), normal(action, rng)).clamp(low, high)
