"""Set-up of a training: networks, generators, runner specs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ray_jobs.envs.making import registered
from ray_jobs.envs.vector import vector
from ray_jobs.errors import UsageError
from ray_jobs.recipe.plan import Play
from ray_jobs.recipe.ranges import check_fields
from ray_jobs.rl.contract import Gradients, World
from ray_jobs.rl.learning.learner import Learner
from ray_jobs.rl.learning.training import Recorder, Report, Training
from ray_jobs.rl.rollout.pools import Local, Remote
from ray_jobs.rl.rollout.runner import ActingAgent, RunnerSpec, build_actor


def untrained(recipe: Play, seed: int) -> ActingAgent:
    """The recipe's agent before training.

    Raises:
        UsageError: environment, options or spaces do not fit.
    """
    try:
        env = vector(recipe.env, 1, recipe.env_options)
        env.close()
        return build_actor(recipe.algorithm, env, recipe.normalize_obs, seed)
    except ValueError as error:
        raise UsageError(str(error)) from None


def trained(recipe: Play, state: Mapping[str, Any], seed: int) -> ActingAgent:
    """The recipe's agent with the weights of a checkpoint.

    Raises:
        UsageError: as `untrained`.
    """
    actor = untrained(recipe, seed)
    actor.load_state_dict(state["learners"][0]["learner"]["actor"])
    return actor


def check(recipe: Play, runners: int, learners: int) -> None:
    """Refuse numbers of environments, runners and learners that do not fit, and settings out of their ranges.

    Raises:
        UsageError: environments cannot be divided evenly, or a number is out of its field's range.
    """
    if runners < 0 or learners < 1 or recipe.envs < 1 or recipe.steps < 1:
        raise UsageError(
            "There must be at least one environment, one step and one learner, and not fewer than 0 runners."
        )
    for declared in (recipe, recipe.algorithm):
        check_fields(declared)
    if runners % learners:
        raise UsageError(
            f"{runners} runners cannot be shared by {learners} learners: give a multiple of {learners}, or 0."
        )
    if isinstance(recipe.algorithm.experience, Gradients) and (recipe.normalize_obs or recipe.normalize_reward):
        raise UsageError(
            f"{type(recipe.algorithm).__name__}'s runners send gradients and no steps, so nothing can be normalised: "
            "leave normalize_obs and normalize_reward out."
        )
    shares = max(runners, learners)
    if recipe.envs % shares:
        raise UsageError(
            f"{recipe.envs} environments cannot be shared by {shares} runners: give envs that {shares} divides."
        )


def generator(seed: int, learner: int) -> torch.Generator:
    """The learner's own generator."""
    word = np.random.SeedSequence(seed, spawn_key=(0, learner)).generate_state(1)[0]
    return torch.Generator().manual_seed(int(word))


def runner_specs(recipe: Play, seed: int, learner: int, learners: int, runners: int) -> list[RunnerSpec]:
    """The specs of one learner's runners, where all learners have `runners` together."""
    mine = max(runners // learners, 1)
    one = RunnerSpec(
        recipe.algorithm,
        recipe.env,
        recipe.envs // (mine * learners),
        seed,
        learner,
        env_options=dict(recipe.env_options),
        normalize_obs=recipe.normalize_obs,
        entry=registered(recipe.env),
    )
    return [replace(one, index=i) for i in range(mine)]


def prepare(
    recipe: Play,
    seed: int,
    world: World,
    runners: int,
    run: Recorder,
    report: Report,
    should_stop: Callable[[], bool],
    device: str,
) -> Training:
    """A training of one learner with its runners, ready to go.

    Raises:
        UsageError: environment, options or spaces do not fit.
    """
    actor = untrained(recipe, seed)
    learner = Learner(
        recipe.algorithm,
        actor,
        world,
        envs=recipe.envs // world.size,
        normalize_reward=recipe.normalize_reward,
        device=torch.device(device),
        matmul=recipe.matmul,
    )
    specs = runner_specs(recipe, seed, world.rank, world.size, runners)
    pool = Remote(specs, report, outside=world.size > 1) if runners else Local(specs)
    return Training(recipe, seed, learner, pool, run, report, should_stop)
