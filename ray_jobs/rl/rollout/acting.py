"""A trained agent that acts: one observation in, one action out, both as the environment has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from ray_jobs.envs.spaces import Observations
from ray_jobs.envs.vector import SequentialEnv, vector
from ray_jobs.recipe.plan import Play
from ray_jobs.rl.rollout.runner import ActingAgent, act, bounds


@dataclass(frozen=True)
class Agent:
    """A trained agent."""

    plan: Play
    """The recipe: algorithm and environment."""
    actor: ActingAgent
    """Its network, and the moments that normalise observations."""
    observations: Observations
    """How an observation of the environment is shown to the network."""
    action_space: gym.Space
    """Of the environment."""
    step: int
    """Environment steps that it was trained for."""

    @classmethod
    def of(cls, plan: Play, actor: ActingAgent, step: int) -> Agent:
        """The agent of a plan with trained weights."""
        env = vector(plan.env, 1, plan.env_options)
        try:
            one = env.envs[0] if isinstance(env, SequentialEnv) else None
            seen = env.seen if isinstance(env, SequentialEnv) else Observations(env.obs_space)
            return cls(plan, actor.eval(), seen, one.action_space if one else env.action_space, step)
        finally:
            env.close()

    @torch.inference_mode()
    def act(self, observation: Any, *, explore: bool = False, rng: torch.Generator | None = None) -> Any:
        """The action for one observation of the environment, as its `step` takes it.

        Of several agents, observations [N, O] and actions [N, ...] are rows in the order of `possible_agents`.

        Args:
            explore: draw the action from the policy, as in training, in place of the best one.
            rng: of an action that is drawn; by default torch's own.

        Raises:
            ValueError: the observation has another shape or values than the environment's.
        """
        drawn = rng or torch.default_generator
        action, _ = act(self.plan.algorithm, self.actor, self.observations(observation)[None], explore, drawn)
        if isinstance(self.action_space, gym.spaces.Discrete):
            return int(action[0])
        if (limits := bounds(self.action_space)) is None:
            return action[0]
        return np.clip(action[0].reshape(self.action_space.shape or ()), *limits)
