"""Agents: networks that more than one algorithm uses."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import gymnasium as gym
import torch
from torch import Tensor, nn

from ray_jobs.rl.maths import draws
from ray_jobs.rl.networks.critics import Ensemble, polyak
from ray_jobs.rl.networks.nets import ConvNet, TanhMLP, Taped, image, mlp
from ray_jobs.rl.networks.policies import Squash, noisy, policy_for


def rows(obs: Tensor, event: int) -> Tensor:
    """[*, *O] -> [*, n] floats, where *O are the last `event` dimensions."""
    obs = obs if obs.is_floating_point() else obs.float()
    return obs if event == 1 else obs.flatten(obs.dim() - event) if event else obs[..., None]


class ActorCritic(nn.Module):
    """A policy network and a value network; observations [*, *O] are flattened, unless they are images.

    Args:
        width: units in each of two hidden layers; the network of images has its own.
        shared: the hidden layers are in common; with images they always are, unless `apart`.
        apart: they never are: images go through two networks.
        net: what vectors go through, made from the layers' sizes and the gains of the last.

    Raises:
        ValueError: the action space is not supported, or the images are too small.
    """

    def __init__(
        self,
        obs: gym.spaces.Box,
        action: gym.Space,
        *,
        width: int,
        shared: bool = False,
        apart: bool = False,
        net: Callable[..., nn.Module] = TanhMLP,
    ) -> None:
        super().__init__()
        self.event = len(obs.shape)
        self.policy = policy_for(action)
        self.image = image(obs)
        self.shared = (shared or self.image) and not apart

        def network(outputs: int, last: float | list[float]) -> nn.Module:
            if self.image:
                return ConvNet(obs.shape, outputs, top=float(obs.high.max()), last=last)
            return net([math.prod(obs.shape), width, width, outputs], last=last)

        if self.shared:
            self.both = network(self.policy.outputs + 1, [0.01] * self.policy.outputs + [1.0])
        else:
            self.actor, self.critic = network(self.policy.outputs, 0.01), network(1, 1.0)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """The policy's numbers [*, outputs] and V(obs) [*]."""
        obs = self.flat(obs)
        if self.shared:
            both = self.both(obs)
            return both[..., :-1], both[..., -1]
        return self.actor(obs), self.critic(obs).squeeze(-1)

    def taped(self, obs: Tensor) -> tuple[Tensor, Tensor, Callable[[], None]]:
        """`forward`, and what is to be called when a loss of it was differentiated, as `descend` does: see `chains.taped`."""
        if not isinstance(self.both if self.shared else self.actor, TanhMLP):
            return *self(obs), lambda: None
        obs = self.flat(obs)
        if self.shared:
            both, to_both = self.both.taped(obs)
            return both[..., :-1], both[..., -1], to_both
        (out, to_actor), (value, to_critic) = self.actor.taped(obs), self.critic.taped(obs)

        def back() -> None:
            to_actor()
            to_critic()

        return out, value.squeeze(-1), back

    def flat(self, obs: Tensor) -> Tensor:
        """[*, *O] -> [*, n]; images stay as they are."""
        return obs if self.image else rows(obs, self.event)

    def value(self, obs: Tensor) -> Tensor:
        """V(obs) [*]"""
        return self(obs)[1] if self.shared else self.critic(self.flat(obs)).squeeze(-1)

    def logits(self, obs: Tensor) -> Tensor:
        """The numbers [*, outputs] by which the policy's distributions are told."""
        return self(obs)[0] if self.shared else self.actor(self.flat(obs))

    def act(self, obs: Tensor, *, explore: bool, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """An action [*, *A], drawn or the likeliest, and the policy's numbers [*, outputs]."""
        out = self.logits(obs)
        return self.policy.sample(out, rng) if explore else self.policy.mode(out), out


class Deterministic(nn.Module):
    """An action [*, *A] within its Box for each observation [*, *O], flattened: ReLU layers, then tanh.

    Args:
        width: units in each of two hidden layers; 0 has none of them, and is linear up to the tanh.

    Source: Lillicrap et al. 2016, arXiv:1509.02971, section 7.
    Differs: both hidden layers have `width` units; the last layer's initial weights are torch's, not tiny.

    Raises:
        ValueError: the action space is not a Box with finite bounds, low below high.
    """

    def __init__(self, obs: gym.spaces.Box, action: gym.Space, *, width: int) -> None:
        super().__init__()
        self.event, self.squash = len(obs.shape), Squash(action)
        hidden = [width, width] if width else []
        self.net = mlp([math.prod(obs.shape), *hidden, self.squash.n], activation=nn.ReLU)
        self.register_buffer("begun", torch.zeros(()))

    def forward(self, obs: Tensor) -> Tensor:
        return self.squash(self.net(rows(obs, self.event)))

    def taped(self, obs: Tensor) -> Taped:
        """`forward`, and what is to be called when a loss of it was differentiated: see `chains.taped`."""
        out, back = self.net.taped(rows(obs, self.event))
        return self.squash(out), back

    def act(self, obs: Tensor, noise: float, *, explore: bool, rng: torch.Generator) -> Tensor:
        """The action, or one to explore by: with normal noise of so many half ranges; from all of the Box until `begun` is 1."""
        low, high = self.squash.low, self.squash.high
        if not explore:
            return self(obs)
        if self.begun:
            return noisy(self(obs), noise, low, high, rng)
        return torch.lerp(low, high, draws.uniform((len(obs), *low.shape), rng).to(low.device))


class ActorCritics(nn.Module):
    """A deterministic actor, critics of observation and action, and slow copies of both, of which targets are made.

    Args:
        width: units in each of two hidden layers of every network.
        critics: how many there are.
        outputs: of each: 1 for a value, or more for a distribution of returns.

    Raises:
        ValueError: as `Deterministic`.
    """

    def __init__(
        self, obs: gym.spaces.Box, action: gym.Space, *, width: int, critics: int = 1, outputs: int = 1
    ) -> None:
        super().__init__()
        self.actor = Deterministic(obs, action, width=width)
        self.critics = Ensemble(critics, [math.prod(obs.shape) + self.actor.squash.n, width, width, outputs])
        self.slow_actor, self.slow_critics = copy.deepcopy(self.actor), copy.deepcopy(self.critics)
        now, slow = nn.ModuleList([self.actor, self.critics]), nn.ModuleList([self.slow_actor, self.slow_critics])
        self.pairs = list(slow.requires_grad_(False).parameters()), list(now.parameters())

    @property
    def acting(self) -> Deterministic:
        return self.actor

    def follow(self, tau: float) -> None:
        """Move the slow copies by the share tau of their way to the networks; at 1 they arrive."""
        polyak(*self.pairs, tau)


class Averaged(nn.Module):
    """Networks, and the average over updates of what their actor was.

    Args:
        now: the networks that learn.
        actor: which part of them acts and is averaged, by its name; all of it where empty.
    """

    def __init__(self, now: nn.Module, actor: str = "") -> None:
        super().__init__()
        self.now, self.part = now, actor
        self.average = copy.deepcopy(self.acting).requires_grad_(False)

    @property
    def acting(self) -> nn.Module:
        return self.now.get_submodule(self.part)

    def follow(self, decay: float) -> None:
        """Take the actor as it is into the average, of which the share `decay` stays."""
        polyak(self.average.parameters(), self.acting.parameters(), 1 - decay)
