"""Training of an agent's recipe: sets up learners and runners, here or on a Ray cluster, and runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray_jobs.distributed.connection import connect
from ray_jobs.envs.making import registered
from ray_jobs.recipe.plan import Play
from ray_jobs.rl.contract import Alone
from ray_jobs.rl.learning.group import train_group
from ray_jobs.rl.learning.setup import check, generator, prepare, trained, untrained
from ray_jobs.rl.learning.training import Recorder, Report, evaluate_greedy


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
        recipe: the algorithm, the environment and the number of steps.
        seed: of every random number.
        run: gets metrics and checkpoints.
        runners: Ray actors that play, over all learners together; 0 plays in each learner's process, without Ray.
        learners: processes that share the updates; more than one are a Ray Train group.
        report: gets progress at most four times a second.
        address: of a Ray cluster; None for one on this machine alone.
        resume: the state of a checkpoint to continue from.
        should_stop: called after every update; once it returns True, the state is saved and `play` returns.
        device: the learners'.
        failures: how often several learners start again from their newest checkpoint because one of them died.

    Returns:
        The result's metrics; without those of the evaluation where it was stopped.

    Raises:
        UsageError: the environment, its spaces or the numbers of environments, runners and learners do not fit.
        FloatingPointError: a loss, an observation or a reward is not finite; nothing is saved after it.
        EnvironmentFailed: an environment raised or hangs, in this process, or on Ray again and again.
        Lost: runners or learners die again and again, or find no free CPU.
    """
    check(recipe, runners, learners)
    if runners or learners > 1:
        untrained(recipe, seed)  # settings that do not fit are refused before a cluster starts
        connect(address, cpus=runners + learners)
    if learners > 1:
        config = {"recipe": recipe, "seed": seed, "runners": runners, "device": device}
        config["entry"] = registered(recipe.env)
        return train_group(config, learners, run, resume, report, should_stop, failures)
    training = prepare(recipe, seed, Alone(generator(seed, 0)), runners, run, report, should_stop, device)
    return training.go(resume)


def evaluate(recipe: Play, state: Mapping[str, Any], *, seed: int) -> dict[str, float]:
    """Greedy episodes of the agent that a checkpoint holds: the result's metrics, as `play` measures them at its end."""
    return evaluate_greedy(recipe, seed, trained(recipe, state, seed))
