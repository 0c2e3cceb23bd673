"""Plays a recipe: sets up the learner and its runners, here or on a Ray cluster, and lets them train."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ray_jobs.envs.vector import vector
from ray_jobs.on_ray import connect
from ray_jobs.recipe import Play, UsageError
from ray_jobs.rl.algorithm import Alone, Gradients, World
from ray_jobs.rl.learner import Learner
from ray_jobs.rl.learners import group
from ray_jobs.rl.pools import Local, Remote
from ray_jobs.rl.runner import Actor, Casting, build_actor
from ray_jobs.rl.training import Recorder, Report, Training, greedy


def play(
    recipe: Play,
    *,
    seed: int,
    run: Recorder,
    runners: int = 0,
    learners: int = 1,
    report: Report = lambda event: None,
    address: str | None = None,
    resume: Mapping[str, Any] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    device: str = "cpu",
    failures: int = 3,
) -> dict[str, float]:
    """Train the recipe's agent and evaluate it.

    Args:
        recipe: what to train, on what and for how long.
        seed: everything is a function of it.
        run: gets metrics and checkpoints.
        runners: Ray actors that play, over all learners together; 0 plays in each learner's process, without Ray.
        learners: processes that share the updates; more than one are a Ray Train group.
        report: gets progress at most four times a second.
        address: a Ray cluster; one of this machine alone where None.
        resume: the state of a checkpoint to go on from.
        should_stop: asked after every update; once True, the state is saved and `play` returns.
        device: the learners'.
        failures: how often several learners start again from their newest checkpoint because one of them died.

    Returns:
        The result's metrics; without an evaluation where it was stopped.

    Raises:
        UsageError: the environment, its spaces or the numbers of environments, runners and learners do not fit.
        FloatingPointError: a loss, an observation or a reward is not finite; nothing is saved after it.
        EnvironmentFailed: an environment raised or hangs, in this process, or on Ray again and again.
        Lost: runners or learners die again and again, or find no place.
    """
    check(recipe, runners, learners)
    untrained(recipe, seed)
    if runners or learners > 1:
        connect(address, cpus=runners + learners)
    if learners > 1:
        config = {"recipe": recipe, "seed": seed, "runners": runners, "device": device}
        return group(config, learners, run, resume, report, should_stop, failures)
    training = prepare(recipe, seed, Alone(generator(seed, 0)), runners, run, report, should_stop, device)
    return training.go(resume)


def evaluate(recipe: Play, state: Mapping[str, Any], *, seed: int) -> dict[str, float]:
    """Greedy episodes of the agent that a checkpoint holds: the result's metrics, as `play` measures them at its end."""
    actor = untrained(recipe, seed)
    actor.load_state_dict(state["learners"][0]["learner"]["actor"])
    return greedy(recipe, seed, actor)


def untrained(recipe: Play, seed: int) -> Actor:
    """The recipe's agent as it begins.

    Raises:
        UsageError: environment, options or spaces do not fit.
    """
    try:
        env = vector(recipe.env, 1, recipe.env_options)
        env.close()
        return build_actor(recipe.algorithm, env, recipe.normalize_obs, seed)
    except ValueError as error:
        raise UsageError(str(error)) from None


def check(recipe: Play, runners: int, learners: int) -> None:
    """Refuse numbers that do not fit.

    Raises:
        UsageError: environments cannot be shared out evenly.
    """
    if runners < 0 or learners < 1 or recipe.envs < 1 or recipe.steps < 1:
        raise UsageError(
            "There must be at least one environment, one step and one learner, and not fewer than 0 runners."
        )
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


def cast(recipe: Play, seed: int, learner: int, learners: int, runners: int) -> list[Casting]:
    """The runners of one learner, of `runners` altogether."""
    mine = max(runners // learners, 1)
    one = Casting(
        recipe.algorithm,
        recipe.env,
        recipe.envs // (mine * learners),
        seed,
        learner,
        env_options=dict(recipe.env_options),
        normalize_obs=recipe.normalize_obs,
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
    )
    castings = cast(recipe, seed, world.rank, world.size, runners)
    pool = Remote(castings, report) if runners else Local(castings)
    return Training(recipe, seed, learner, pool, run, report, should_stop)
