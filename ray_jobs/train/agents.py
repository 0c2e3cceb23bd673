"""The engine of `Play`: reinforcement-learning agents, with runners in this process or as Ray actors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ray_jobs.distributed.connection import cluster_address
from ray_jobs.errors import UsageError
from ray_jobs.recipe.loading import systems
from ray_jobs.recipe.plan import Play
from ray_jobs.recipe.settings import build, known, resolved
from ray_jobs.recipe.spec import Spec
from ray_jobs.run.folder import Run
from ray_jobs.run.progress import Report
from ray_jobs.train import earlier
from ray_jobs.train.drawing import Drawing

FIXED = ("env", "envs", "env_options", "normalize_obs", "normalize_reward")
"""Options that a checkpoint depends on."""


def train(run: Run, spec: Spec, report: Report, should_stop: Callable[[], bool]) -> bool:
    """Play and learn; whether training reached its end."""
    import torch

    from ray_jobs.rl.learning.play import play

    torch.set_num_threads(spec.where.threads)
    device = "cuda" if spec.where.accelerator == "gpu" else "cpu"  # small networks are faster on the CPU
    try:
        plan = build(spec.recipe, spec.settings)
    except ValueError as error:
        raise UsageError(str(error)) from error
    state = run.latest()
    if state:
        check_checkpoint(run, plan, state)  # before anything of the run is cut back
    run.rewind(state["step"] if state else 0)
    if state:
        report({"note": f"continuing from step {state['step']}"})
    try:
        metrics = play(
            plan,
            seed=spec.seed,
            runners=spec.where.runners,
            learners=spec.where.learners,
            run=run,
            report=report,
            address=cluster_address(spec.where.address),
            resume=state,
            should_stop=should_stop,
            device=device,
            failures=spec.where.max_failures,
        )
    except UsageError:
        check_spaces(plan)  # its message says more
        raise
    if "episode_return" not in metrics:  # only a training that was stopped ends without an evaluation
        return False
    conclude(run, metrics, device)
    return True


def check_spaces(plan: Play) -> None:
    """Refuse an environment whose observations or actions the algorithm cannot take, and name the algorithms that can.

    Raises:
        UsageError: the algorithm cannot be built for the environment's spaces, or the environment cannot be made.
    """
    from ray_jobs.envs.vector import vector

    try:
        env = vector(plan.env, 1, plan.env_options)
        env.close()
    except ValueError as error:
        raise UsageError(str(error)) from None
    try:
        plan.algorithm.build(env.obs_space, env.action_space)
    except ValueError as error:
        able = ", ".join(name for name, other in _algorithms() if _builds(other, env))
        known = f" Algorithms that can learn on {plan.env}: {able}." if able else ""
        raise UsageError(f"{error}{known}") from None


def _algorithms() -> Iterator[tuple[str, Any]]:
    """Every algorithm with its defaults, by the name of its system."""
    for name, found in systems().items():
        if isinstance(found.plan, Play):
            plan = resolved(found.plan, {k: s.default for k, s in known(name).items()})
            yield name, plan.algorithm


def _builds(algorithm: Any, env: Any) -> bool:
    with contextlib.suppress(ValueError):
        algorithm.build(env.obs_space, env.action_space)
        return True
    return False


def conclude(run: Run, metrics: Mapping[str, float], device: str) -> None:
    """Declare an agent's run finished.

    Raises:
        OSError: its last checkpoint is not there.
    """
    from ray_jobs.results.plots import learning_curve

    step = int(metrics["env_steps"])
    if run.checkpoints()[:1] != [run.checkpoint(step)]:
        raise OSError(f"The last checkpoint could not be written to {run}: make room, then 'reprise resume {run}'.")
    learning_curve(run)
    run.finish(metrics, step=step, device=device)


def evaluate(run: Run) -> tuple[dict[str, float], int]:
    """The return of greedy episodes of the newest checkpoint, and its step.

    Raises:
        UsageError: there is no checkpoint that can be read.
    """
    from ray_jobs.rl.learning.play import evaluate

    state = run.trained()
    plan = build(run.spec.recipe, run.spec.settings)
    check_checkpoint(run, plan, state)
    return evaluate(plan, state, seed=run.spec.seed), state["step"]


def check_checkpoint(run: Run, plan: Play, state: Mapping[str, Any]) -> None:
    """Refuse a checkpoint whose weights or optimisers are not those of the plan's agent.

    Raises:
        UsageError: an earlier version wrote it.
    """
    from ray_jobs.rl.learning.setup import untrained

    actor, learner, step, name = untrained(plan, 0), state["learners"][0]["learner"], state["step"], run.spec.recipe
    earlier.check_weights(run, step, learner["actor"], actor.state_dict(), name)
    optimisers = plan.algorithm.optimizers(actor.agent)
    earlier.check_names(run, step, learner["optimizers"], optimisers, f"optimisers of {name}")


def sample(run: Run, *, n: int, seed: int, name: str, how: Drawing) -> Path:
    """Refuse: an agent has no samples.

    Raises:
        UsageError: always.
    """
    raise UsageError(f"{run} trained an agent: there is nothing to sample. 'reprise evaluate {run}' plays episodes.")


def weights(plan: Play, seed: int) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    """The untrained weights, and the parameter groups of the optimisers, in order."""
    from ray_jobs.envs.vector import vector
    from ray_jobs.rl.rollout.runner import build_actor

    env = vector(plan.env, 1, plan.env_options)
    try:
        actor = build_actor(plan.algorithm, env, plan.normalize_obs, seed)
    finally:
        env.close()
    optimizers = plan.algorithm.optimizers(actor.agent)
    return actor.state_dict(), [g for o in optimizers.values() for g in o.param_groups]


def fixed(plan: Play) -> dict[str, Any]:
    """Options that a checkpoint depends on, so that they cannot change while a run continues."""
    kept = {name: getattr(plan, name) for name in FIXED}
    return kept | {"experience": plan.algorithm.experience, "steps": plan.steps}


def check_together(plan: Play) -> None:
    """Refuse a recipe whose seeds cannot be trained together in one process.

    Raises:
        UsageError: it cannot, and why.
    """
    from ray_jobs.rl.together.play import check_together

    check_together(plan)
