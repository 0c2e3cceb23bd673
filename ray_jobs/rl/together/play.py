"""Train several seeds of one recipe in one process: their networks are stacked and updated together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ray_jobs.envs.multi_agent import MultiAgent
from ray_jobs.envs.vector import vector
from ray_jobs.errors import UsageError
from ray_jobs.recipe.plan import Play
from ray_jobs.rl.contract import Alone, Fresh, Replay, Stream, reason_not_together
from ray_jobs.rl.learning.setup import generator, prepare
from ray_jobs.rl.learning.training import Recorder
from ray_jobs.rl.networks.nets import image
from ray_jobs.rl.together.seeds import Together


def play_together(
    recipe: Play,
    seeds: Sequence[int],
    runs: Sequence[Recorder],
    *,
    states: Sequence[Mapping[str, Any] | None],
    done: Callable[[int, dict[str, float]], None],
    failed: Callable[[int, Exception], None],
    report: Callable[[int, Mapping[str, Any]], None] = lambda i, event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train several seeds in this process, each as `play` would up to the order of sums; seeds at the same step are updated together.

    Args:
        recipe: what to train; `check_together` has accepted it.
        seeds: of the trainings.
        runs: get their metrics and checkpoints.
        states: of the checkpoints from which they continue, or None.
        done: called with the index of each seed that reached its end, and its result's metrics.
        failed: called with the index of each seed that cannot continue, and why; the others continue.
        report: called with the index of a seed and what is to be known about it: {"note": a sentence}.
        should_stop: asked after every round; once True, all are saved, and this returns.

    Returns:
        Whether they were stopped before their end.

    Raises:
        UsageError: the environment does not fit, or there is no memory for what is to be replayed.
        FloatingPointError, EnvironmentFailed: an environment's fault, which ends all.
    """
    trainings = [
        prepare(recipe, seed, Alone(generator(seed, 0)), 0, run, partial(report, i), should_stop, "cpu")
        for i, (seed, run) in enumerate(zip(seeds, runs, strict=True))
    ]
    for training, state in zip(trainings, states, strict=True):
        if state:
            training.load(state)
    which = {id(t): i for i, t in enumerate(trainings)}
    for step in sorted({t.counters.steps for t in trainings}):
        group = Together([t for t in trainings if t.counters.steps == step])
        if group.go(lambda t, m: done(which[id(t)], m), lambda t, e: failed(which[id(t)], e), should_stop):
            return True
    return False


def check_together(recipe: Play) -> None:
    """Refuse a recipe that `play_together` cannot train.

    An algorithm says itself why it cannot (`not_together`). One that does not is tried with two seeds, an action and made-up steps.

    Raises:
        UsageError: the algorithm or the environment does not allow it.
    """
    name, plan = type(recipe.algorithm).__name__, recipe.algorithm.experience
    env = vector(recipe.env, 1, recipe.env_options)
    env.close()
    replayed = isinstance(plan, Replay) and not (plan.length or plan.priority or plan.newest)
    plain = replayed or isinstance(plan, Stream) or (isinstance(plan, Fresh) and not plan.keep)
    if not plain:
        raise UsageError(cannot(name, "it learns neither from fresh steps alone nor from ones replayed evenly"))
    if image(env.obs_space) or isinstance(env, MultiAgent):
        raise UsageError(cannot(name, f"{recipe.env} shows images or has several agents"))
    if recipe.normalize_reward:
        raise UsageError(cannot(name, "rewards are normalised"))
    if reason := reason_not_together(recipe.algorithm):
        raise UsageError(cannot(name, reason))
    run: Any = None
    trainings = [
        prepare(replace(recipe, envs=2), seed, Alone(generator(seed, 0)), 0, run, print, bool, "cpu") for seed in (0, 1)
    ]
    try:
        Together(trainings).trial()
    except (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
        raise UsageError(cannot(name, "a trial with two seeds failed under torch.func.vmap")) from error
    finally:
        for t in trainings:
            t.pool.close()


def cannot(name: str, why: str) -> str:
    """The refusal of an algorithm, for a reason."""
    return (
        f"{name} cannot train seeds together here: {why}. Leave --together out; it is for REINFORCE, A2C, PPO, DQN, DDPG, TD3, SAC and "
        "their like, with vectors for observations."
    )
