"""Agents: networks that more than one algorithm uses, and policies over them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import gymnasium as gym
import torch
from torch import Tensor, nn

from ray_jobs.rl.nets import TanhMLP


class Policy(Protocol):
    """A family of action distributions, told by the numbers [B, `outputs`] that a network puts out."""

    outputs: int

    def sample(self, out: Tensor, rng: torch.Generator) -> Tensor: ...
    def mode(self, out: Tensor) -> Tensor: ...
    def log_prob(self, out: Tensor, action: Tensor) -> Tensor:
        """log pi(action) [B] in nats."""
        ...

    def entropy(self, out: Tensor) -> Tensor:
        """[B] in nats"""
        ...


class Categorical(nn.Module):
    """Actions 0..n-1 with probabilities softmax(out)."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.outputs = n

    def sample(self, out: Tensor, rng: torch.Generator) -> Tensor:
        """Gumbel's trick: the index of the largest logit plus noise."""
        noise = torch.empty(out.shape, device=rng.device).exponential_(generator=rng).log_().to(out.device)
        return (out - noise).argmax(-1)

    def mode(self, out: Tensor) -> Tensor:
        return out.argmax(-1)

    def log_prob(self, out: Tensor, action: Tensor) -> Tensor:
        return out.log_softmax(-1).gather(-1, action[..., None]).squeeze(-1)

    def entropy(self, out: Tensor) -> Tensor:
        logp = out.log_softmax(-1)
        return -(logp.exp() * logp).sum(-1)


class Gaussian(nn.Module):
    """Independent normal actions [*, A] around `out`, with deviations that do not depend on the observation."""

    def __init__(self, shape: Sequence[int], log_std: float = 0.0) -> None:
        super().__init__()
        self.shape, self.outputs = tuple(shape), math.prod(shape)
        self.log_std = nn.Parameter(torch.full((self.outputs,), log_std))

    def sample(self, out: Tensor, rng: torch.Generator) -> Tensor:
        noise = torch.empty(out.shape, device=rng.device).normal_(generator=rng).to(out.device)
        return self.mode(out + self.log_std.exp() * noise)

    def mode(self, out: Tensor) -> Tensor:
        return out.reshape(*out.shape[:-1], *self.shape)

    def log_prob(self, out: Tensor, action: Tensor) -> Tensor:
        z = (action.reshape(out.shape) - out) * (-self.log_std).exp()
        return -(0.5 * z.square() + self.log_std + 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self, out: Tensor) -> Tensor:
        return (self.log_std + 0.5 * math.log(2 * math.pi) + 0.5).sum().expand(out.shape[:-1])


def policy_for(action: gym.Space, log_std: float = 0.0) -> Categorical | Gaussian:
    """The policy that fits an action space.

    Raises:
        ValueError: it is neither Discrete (from 0) nor Box.
    """
    if isinstance(action, gym.spaces.Discrete) and action.start == 0:
        return Categorical(int(action.n))
    if isinstance(action, gym.spaces.Box):
        return Gaussian(action.shape, log_std)
    raise ValueError(f"The action space {action} is not supported: it must be Discrete (starting at 0) or Box.")


class ActorCritic(nn.Module):
    """A policy network and a value network, apart or with hidden layers in common; observations [*, *O] are flattened."""

    def __init__(
        self,
        obs: gym.spaces.Box,
        action: gym.Space,
        *,
        width: int,
        shared: bool = False,
        net: Callable[..., nn.Module] = TanhMLP,
    ) -> None:
        super().__init__()
        self.event = len(obs.shape)
        self.policy = policy_for(action)
        n, outputs = math.prod(obs.shape), self.policy.outputs
        if shared:
            self.both = net([n, width, width, outputs + 1], last=[0.01] * outputs + [1.0])
        else:
            self.actor = net([n, width, width, outputs], last=0.01)
            self.critic = net([n, width, width, 1])
        self.shared = shared

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """The policy's numbers [*, outputs] and V(obs) [*]."""
        obs = self.flat(obs)
        if self.shared:
            both = self.both(obs)
            return both[..., :-1], both[..., -1]
        return self.actor(obs), self.critic(obs).squeeze(-1)

    def flat(self, obs: Tensor) -> Tensor:
        """[*, *O] -> [*, n]"""
        return obs if self.event == 1 else obs.flatten(obs.dim() - self.event) if self.event else obs[..., None]

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
