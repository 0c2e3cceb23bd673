"""Agents: networks that more than one algorithm uses."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import gymnasium as gym
import torch
from torch import Tensor, nn

from ray_jobs.rl.maths import draws
from ray_jobs.rl.networks.critics import critics_of, polyak
from ray_jobs.rl.networks.nets import ConvNet, Convolutions, Dueling, ReLUMLP, TanhMLP, brightest, image
from ray_jobs.rl.networks.policies import Squash, Units, noisy, policy_for


def rows(obs: Tensor, event: int) -> Tensor:
    """[*, *O] -> [*, n] floats, where *O are the last `event` dimensions."""
    obs = obs if obs.is_floating_point() else obs.float()
    return obs if event == 1 else obs.flatten(obs.dim() - event) if event else obs[..., None]


class ActorCritic(nn.Module):
    """A policy network and a value network; observations [*, *O] are flattened, unless they are images.

    Args:
        width: units in each of two hidden layers; the network of images has its own.
        shared: policy and value share their hidden layers; with images they always do, unless `separate`.
        separate: they never do: images go through two networks.
        net: the network of vectors, made from the layers' sizes and the gains of the last.

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
        separate: bool = False,
        net: Callable[..., nn.Module] = TanhMLP,
    ) -> None:
        super().__init__()
        self.event = len(obs.shape)
        self.policy = policy_for(action)
        self.image = image(obs)
        self.shared = (shared or self.image) and not separate

        def network(outputs: int, last: float | list[float]) -> nn.Module:
            if self.image:
                return ConvNet(obs.shape, outputs, top=brightest(obs), last=last)
            return net([math.prod(obs.shape), width, width, outputs], last=last)

        if self.shared:
            self.both = network(self.policy.outputs + 1, [0.01] * self.policy.outputs + [1.0])
        else:
            self.actor, self.critic = network(self.policy.outputs, 0.01), network(1, 1.0)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """The parameters of the policy's distributions [*, outputs], such as logits, and V(obs) [*]."""
        obs = self.encode(obs)
        if self.shared:
            both = self.both(obs)
            return both[..., :-1], both[..., -1]
        return self.actor(obs), self.critic(obs).squeeze(-1)

    def encode(self, obs: Tensor) -> Tensor:
        """The networks' input: [*, *O] -> [*, n]; images stay as they are."""
        return obs if self.image else rows(obs, self.event)

    def value(self, obs: Tensor) -> Tensor:
        """V(obs) [*]"""
        return self(obs)[1] if self.shared else self.critic(self.encode(obs)).squeeze(-1)

    def logits(self, obs: Tensor) -> Tensor:
        """The parameters of the policy's distributions [*, outputs]."""
        return self(obs)[0] if self.shared else self.actor(self.encode(obs))

    def act(self, obs: Tensor, *, explore: bool, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """An action [*, *A], drawn or the likeliest, and the parameters of its distribution [*, outputs]."""
        out = self.logits(obs)
        return self.policy.sample(out, rng) if explore else self.policy.mode(out), out


class Deterministic(nn.Module):
    """An action [*, *A] within its Box for each observation [*, *O]: ReLU layers, then tanh; pictures go through convolutions.

    Args:
        width: units in each of two hidden layers; with 0 the network is linear up to the tanh. The network of pictures has its own.
        net: the network of vectors, made from the layers' sizes; `nets.mlp` can be differentiated twice.

    Source: Lillicrap et al. 2016, arXiv:1509.02971, section 7.
    Differs: both hidden layers have `width` units; the last layer's initial weights are torch's, not tiny.

    Raises:
        ValueError: the action space is not a Box with finite bounds, low below high.
    """

    def __init__(
        self, obs: gym.spaces.Box, action: gym.Space, *, width: int, net: Callable[..., nn.Module] = ReLUMLP
    ) -> None:
        super().__init__()
        self.event, self.squash, self.image = len(obs.shape), Squash(action), image(obs)
        hidden = [width, width] if width else []
        if self.image:
            self.net: nn.Module = ConvNet(obs.shape, self.squash.n, top=brightest(obs))
        else:
            self.net = net([math.prod(obs.shape), *hidden, self.squash.n])
        self.register_buffer("started", torch.zeros(()))

    def forward(self, obs: Tensor) -> Tensor:
        """mu(obs) [*, *A]"""
        return self.squash(self.net(obs if self.image else rows(obs, self.event)))

    def act(self, obs: Tensor, noise: float, *, explore: bool, rng: torch.Generator) -> Tensor:
        """mu(obs), or an exploring action: uniform in the Box until `started` is 1, then mu(obs) plus normal noise.

        Args:
            noise: standard deviation, in halves of the actions' range.
        """
        low, high = self.squash.low, self.squash.high
        if not explore:
            return self(obs)
        if self.started:
            return noisy(self(obs), noise, low, high, rng)
        return torch.lerp(low, high, draws.uniform((len(obs), *low.shape), rng).to(low.device))


class ActorCritics(nn.Module):
    """A deterministic actor, critics of observation and action, and target networks: slow copies of both.

    Args:
        width: units in each of two hidden layers of every network.
        critics: how many there are.
        outputs: of each critic: 1 for a value, or more for a distribution of returns.

    Raises:
        ValueError: as `Deterministic`.
    """

    def __init__(
        self, obs: gym.spaces.Box, action: gym.Space, *, width: int, critics: int = 1, outputs: int = 1
    ) -> None:
        super().__init__()
        self.actor = Deterministic(obs, action, width=width)
        n = self.actor.squash.n
        self.critics = critics_of(critics, obs, width=width, actions=n, outputs=outputs, units=Units(action))
        self.slow_actor, self.slow_critics = copy.deepcopy(self.actor), copy.deepcopy(self.critics)
        now, slow = nn.ModuleList([self.actor, self.critics]), nn.ModuleList([self.slow_actor, self.slow_critics])
        self.pairs = list(slow.requires_grad_(False).parameters()), list(now.parameters())

    @property
    def acting(self) -> Deterministic:
        """The part that a runner needs."""
        return self.actor

    def update_targets(self, tau: float) -> None:
        """Move the target networks by the share tau of the distance to the networks; with 1 they become equal."""
        polyak(*self.pairs, tau)


class Averaged(nn.Module):
    """Networks, and the running average of their actor over updates.

    Args:
        now: the networks that learn.
        actor: the name of the part that acts and is averaged; all of them where empty.
    """

    def __init__(self, now: nn.Module, actor: str = "") -> None:
        super().__init__()
        self.now, self.part = now, actor
        self.average = copy.deepcopy(self.acting).requires_grad_(False)

    @property
    def acting(self) -> nn.Module:
        """The part that a runner needs."""
        return self.now.get_submodule(self.part)

    def update_average(self, decay: float) -> None:
        """Add the actor as it is now to the average; the share `decay` of the old average remains."""
        polyak(self.average.parameters(), self.acting.parameters(), 1 - decay)


class QAgent(nn.Module):
    """Outputs [B, A * k] for observations [B, *O], the slow copy, and the probability of exploring, which runners get with the weights."""

    def __init__(self, obs: gym.spaces.Box, actions: int, width: int, dueling: bool, outputs: int) -> None:
        super().__init__()
        self.image, self.event = image(obs), len(obs.shape)
        size = math.prod(obs.shape)
        if dueling and self.image:
            trunk = Convolutions(obs.shape, top=brightest(obs))
            self.q: nn.Module = Dueling(trunk, trunk.features, trunk.hidden, actions, outputs)
        elif dueling:
            self.q = Dueling(nn.Sequential(nn.Linear(size, width), nn.ReLU()), width, width, actions, outputs)
        elif self.image:
            self.q = ConvNet(obs.shape, actions * outputs, top=brightest(obs))
        else:
            self.q = ReLUMLP([size, width, width, actions * outputs])
        self.target = copy.deepcopy(self.q).requires_grad_(False)
        self.register_buffer("epsilon", torch.ones(()))

    @property
    def acting(self) -> nn.Module:
        """The part that a runner needs: without the slow copy."""
        part = nn.Module()
        part.q = self.q
        part.register_buffer("epsilon", self.epsilon)
        return part

    def encode(self, obs: Tensor) -> Tensor:
        """[B, *O] -> [B, n] floats; images stay as they are."""
        return obs if self.image else rows(obs, self.event)
