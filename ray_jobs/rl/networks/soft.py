"""The networks of soft actor-critic, for a Box or for discrete actions."""

from __future__ import annotations

import copy
import math

import gymnasium as gym
import torch
from torch import Tensor, nn

from ray_jobs.rl.networks.agents import rows
from ray_jobs.rl.networks.critics import Ensemble, PictureCritics, critics_of
from ray_jobs.rl.networks.nets import ConvNet, ReLUMLP, brightest, image
from ray_jobs.rl.networks.policies import Categorical, SquashedGaussian, Units


class SoftActor(nn.Module):
    """A policy network and the logarithm of the temperature; one optimiser moves both."""

    def __init__(self, obs: gym.spaces.Box, action: gym.Space, width: int, alpha: float) -> None:
        super().__init__()
        self.event, self.policy, self.image = len(obs.shape), soft_policy(action), image(obs)
        if self.image:
            self.net: nn.Module = ConvNet(obs.shape, self.policy.outputs, top=brightest(obs))
        else:
            self.net = ReLUMLP([math.prod(obs.shape), width, width, self.policy.outputs])
        self.log_alpha = nn.Parameter(torch.tensor(math.log(alpha)))

    def forward(self, obs: Tensor) -> Tensor:
        """The parameters of the policy's distributions [N, outputs] for obs [N, *O]."""
        return self.net(obs if self.image else rows(obs, self.event))


class SoftAgent(nn.Module):
    """The actor, two critics and their slow copies. A critic has one output for a Box, else one for each action.

    Args:
        width: units in each of two hidden layers of every network.
        alpha: the temperature at the start.

    Raises:
        ValueError: as `soft_policy`.
    """

    def __init__(self, obs: gym.spaces.Box, action: gym.Space, width: int, alpha: float) -> None:
        super().__init__()
        self.actor = SoftActor(obs, action, width, alpha)
        policy = self.actor.policy
        self.discrete = isinstance(policy, Categorical)
        if self.discrete:
            self.critics = critics_of(2, obs, width=width, outputs=policy.outputs)
        else:
            self.critics = critics_of(2, obs, width=width, actions=policy.squash.n, units=Units(action))
        self.target = copy.deepcopy(self.critics).requires_grad_(False)

    @property
    def acting(self) -> SoftActor:
        """The part that a runner needs."""
        return self.actor

    def q_taken(self, obs: Tensor, action: Tensor) -> Tensor:
        """Both critics' Q(s, a) [2, N] of obs [N, *O] and the actions that were taken [N, *A]."""
        if not self.discrete:
            return self.critics(obs, action)
        return self.critics(obs).gather(-1, action.expand(2, -1)[..., None]).squeeze(-1)

    def evaluate(self, critics: Ensemble | PictureCritics, obs: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Q [2, N] and log pi [N] of an action drawn from the policy; or of all discrete actions, [2, N, A] and [N, A].

        Gradients reach the actor alone.
        """
        out = self.actor(obs)
        if self.discrete:
            return critics(obs, frozen=True), out.log_softmax(-1)
        action, logp = self.actor.policy.rsample(out, rng)
        return critics(obs, action, frozen=True), logp

    def target_entropy(self, given: float | None) -> Tensor | float:
        """The target entropy in nats, in the units of log pi.

        Args:
            given: for actions scaled to +-1. None is minus their dimension or, with n discrete actions, 0.98 log n.
        """
        policy = self.actor.policy
        if self.discrete:
            return 0.98 * math.log(policy.outputs) if given is None else given
        return policy.squash.reach.log().sum() + (-policy.squash.n if given is None else given)


def soft_policy(action: gym.Space) -> Categorical | SquashedGaussian:
    """The policy that SAC uses for an action space.

    Raises:
        ValueError: it has none for the space.
    """
    if isinstance(action, gym.spaces.Discrete) and action.start == 0 and action.n > 1:
        return Categorical(int(action.n))
    try:
        return SquashedGaussian(action)
    except ValueError:
        raise ValueError(
            "SAC needs a Box with finite bounds, low below high, or two or more Discrete actions that start at 0, "
            f"and this is {action}."
        ) from None
