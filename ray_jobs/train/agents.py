"""The engine of `Play`: reinforcement-learning agents, with runners in this process or as Ray actors."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_jobs.distributed.connection import cluster_address
from ray_jobs.envs.failures import EnvironmentFailed
from ray_jobs.errors import UsageError
from ray_jobs.recipe.loading import systems
from ray_jobs.recipe.plan import Play
from ray_jobs.recipe.settings import build, known, resolved
from ray_jobs.recipe.spec import Spec
from ray_jobs.run.checkpoint import taken_over
from ray_jobs.run.folder import Run
from ray_jobs.run.progress import Event, Report
from ray_jobs.train import earlier
from ray_jobs.train.drawing import Drawing, refuse_average

if TYPE_CHECKING:
    from ray_jobs.rl.rollout.acting import Agent
    from ray_jobs.rl.rollout.runner import ActingAgent

FIELDS = {"step": int, "learners": list}
"""What a checkpoint must hold."""
STATUS_EVERY = 5.0
"""Seconds between two writings of the status."""
DEFAULT_EPISODES = 3
"""Episodes that `reprise sample` records."""
FIXED = ("env", "envs", "env_options", "normalize_obs", "normalize_reward")
"""Options that a checkpoint depends on."""


def train(run: Run, spec: Spec, report: Report, should_stop: Callable[[], bool]) -> bool:
    """Play and learn; whether training reached its end."""
    import torch

    from ray_jobs.rl.learning.play import play

    torch.set_num_threads(spec.where.threads)
    device = "cuda" if spec.where.accelerator == "gpu" else "cpu"  # small networks are faster on the CPU
    try:
        plan = planned(spec)
    except ValueError as error:
        raise UsageError(str(error)) from error
    state = run.latest(FIELDS)
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
            report=with_status(run, report, plan.steps),
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


def with_status(run: Run, report: Report, steps: int) -> Report:
    """A report that also writes the step into the run's status, at its last step and else every few seconds."""
    written = 0.0

    def reporting(event: Event) -> None:
        nonlocal written
        now, step = time.monotonic(), event.get("step")
        if step is not None and (step >= steps or now - written > STATUS_EVERY):
            written = now
            run.status("running", step, steps)
        report(event)

    return reporting


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
        raise UsageError(f"{error} Algorithms that can learn on {plan.env}: {able or 'none'}.") from None


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
    run.finish(metrics, step=step, device=device, splits=splits(run, metrics))


def planned(spec: Spec) -> Play:
    """The plan of a spec.

    Raises:
        ValueError: the recipe refuses its settings.
    """
    return replace(build(spec.recipe, spec.settings), measured_on=spec.measured_on)


def splits(run: Run, metrics: Iterable[str]) -> dict[str, str]:
    """The environments that each return was measured on; a count or a duration has none."""
    kinds = {"test": "fresh environments", "validation": "validation environments"}
    returns = {name: "train" if name.startswith("train_") else kinds[run.spec.measured_on] for name in metrics}
    return {name: kind for name, kind in returns.items() if "return" in name and not name.startswith("seconds")}


def evaluate(run: Run, ema: float | None = None) -> tuple[dict[str, float], int]:
    """The return of greedy episodes of the newest checkpoint, and its step.

    Raises:
        UsageError: there is no checkpoint that can be read, or an average of the weights is asked for.
    """
    refuse_average(run, ema)
    from ray_jobs.rl.learning.play import evaluate

    state = run.trained(FIELDS)
    plan = planned(run.spec)
    check_checkpoint(run, plan, state)
    return evaluate(plan, state, seed=run.spec.seed), state["step"]


def check_checkpoint(run: Run, plan: Play, state: Mapping[str, Any]) -> None:
    """Refuse a checkpoint whose weights or optimisers are not those of the plan's agent.

    Raises:
        UsageError: an earlier version wrote it.
    """
    from ray_jobs.rl.learning.setup import untrained

    actor, step, name = untrained(plan, 0), state["step"], run.spec.recipe
    with taken_over(run.checkpoint(step)):
        learner = state["learners"][0]["learner"]
        earlier.check_weights(run, step, learner["actor"], actor.state_dict(), name)
        optimisers = plan.algorithm.optimizers(actor.agent)
        earlier.check_names(run, step, learner["optimizers"], optimisers, f"optimisers of {name}")


def sample(run: Run, *, n: int, seed: int, name: str, how: Drawing) -> Path:
    """Episodes of that checkpoint, side by side in <name>.gif or <name>.mp4, with the return above each; see `rollout.recording`.

    Raises:
        UsageError: there is no checkpoint that can be read, an option is for models, or the environment draws no frames.
    """
    if how != how.of_an_agent:
        raise UsageError(
            f"{run} trained an agent: 'reprise sample' takes --episodes, --stochastic, --video, --seed and --name for it."
        )
    episodes = DEFAULT_EPISODES if how.episodes is None else how.episodes
    if episodes < 1:
        raise UsageError(f"--episodes must be at least 1, not {episodes}.")
    from ray_jobs.results import video
    from ray_jobs.rl.learning.setup import runner_specs
    from ray_jobs.rl.rollout.recording import record

    plan, actor, _ = restored(run)
    [spec] = runner_specs(plan, run.spec.seed, 0, 1, 1)
    try:
        played = record(spec, actor, episodes, seed=seed, explore=how.stochastic, longest=plan.eval_steps)
    except (ValueError, EnvironmentFailed) as error:
        raise UsageError(str(error)) from None
    shown = [(e.frames, [f"{k + 1}: return {total:.6g}" for total in e.gained]) for k, e in enumerate(played)]
    name = "episodes" if name == "samples" else name
    return video.write(list(video.tiled(shown)), played[0].fps, run.path / f"{name}.{how.video or 'gif'}")


def restored(run: Run) -> tuple[Play, ActingAgent, int]:
    """The plan, the agent with the weights of that checkpoint, and its step.

    Raises:
        UsageError: there is no checkpoint that can be read.
    """
    from ray_jobs.rl.learning.setup import trained

    state, plan = run.trained(FIELDS), planned(run.spec)
    check_checkpoint(run, plan, state)
    return plan, trained(plan, state, run.spec.seed), state["step"]


def loaded(run: Run) -> Agent:
    """The agent of that checkpoint, which acts.

    Raises:
        UsageError: as `restored`.
    """
    from ray_jobs.rl.rollout.acting import Agent

    return Agent.of(*restored(run))


def model(run: Run) -> Any:
    """No model that could be exported.

    Raises:
        UsageError: always.
    """
    raise UsageError(f"{run} has no diffusion model: {run.spec.recipe} trains an agent.")


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
