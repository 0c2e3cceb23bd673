"""How large what we train is at the papers' scale, measured without training it: the numbers that `benchmarks.arithmetic` counts with.

A generative model takes one step on two examples, on this machine's CPU: its checkpoint is what that leaves (weights, the optimiser's
moments, the average), and its work what torch counts in products and convolutions, forward and back. An agent's runner plays fragments
for a second and its learner learns from one as long, one thread each.

    python -m benchmarks.sizes
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import Report, Row, arguments
from lightning_modules.ema import EMA
from lightning_modules.gan.adversarial import DISCRIMINATOR, GENERATOR, AdversarialModel
from ray_jobs.recipe.loading import kind, names, recipe
from ray_jobs.recipe.plan import Fit, Play
from ray_jobs.recipe.settings import build

EXAMPLES = 2
"""In the step that is counted: batch norm needs more than one."""
REPLAYED = 2000
"""Steps that a replay buffer may hold here; its size at full capacity is in proportion."""


class Whole(contextlib.nullcontext):
    """In place of what tells modules apart, and stumbles over a gradient's gradient."""

    parents = frozenset({"Global"})


def paper_scale(of: type) -> list[str]:
    """The recipes of a kind whose settings are their papers'."""
    found = {name: recipe(name) for name in names() if "@" not in name}
    return [name for name, one in found.items() if "paper's scale" in one.title and kind(one) is of]


# ---- generative models


def fitted(name: str) -> Row:
    """Parameters, bytes of a checkpoint and floating-point operations of one step of a recipe."""
    torch.manual_seed(0)
    made = build(name, {})
    assert isinstance(made, Fit)
    optimizers = list(found_optimizers(made.model.configure_optimizers()))
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = Whole()
    with counter:
        step(made.model, example(made))
    for optimizer in optimizers:
        optimizer.step()
    work = counter.get_total_flops() / EXAMPLES
    batch = made.batch
    return {
        "parameters": sum(p.numel() for p in made.model.parameters()),
        "checkpoint_bytes": written(checkpoint(made, optimizers)),
        "batch": batch, "steps": made.steps, "save_every": made.save_every,
        "log_every": made.log_every, "flop_per_step": work * batch,
    }  # fmt: skip


def found_optimizers(given: Any) -> Iterator[torch.optim.Optimizer]:
    """Those among what a model's `configure_optimizers` gives."""
    for one in given if isinstance(given, list | tuple) else [given]:
        yield one["optimizer"] if isinstance(one, dict) else one


def example(made: Fit) -> dict[str, Tensor]:
    """A made-up batch of what the recipe trains on, values of -1 and 1; no file is read."""
    return {"x": torch.randint(0, 2, (EXAMPLES, *made.data.shape)) * 2.0 - 1}


def step(model: Any, batch: dict[str, Tensor]) -> None:
    """Forward and back, of everything that one step of the recipe takes."""
    if not isinstance(model, AdversarialModel):
        torch.stack(list(model.losses(batch).values())).sum().backward()
        return
    for network in [DISCRIMINATOR] * model.critic_steps + [GENERATOR]:
        with torch.set_grad_enabled(network == GENERATOR):
            fake = model.fakes(batch)
        losses = model.discriminator_losses if network == DISCRIMINATOR else model.generator_losses
        torch.stack(list(losses(batch["x"], fake).values())).sum().backward(inputs=model.weights(network))


def checkpoint(made: Fit, optimizers: list[torch.optim.Optimizer]) -> dict[str, Any]:
    """What a checkpoint holds, but for some thousand bytes of counters."""
    average = EMA(made.ema)
    average.on_train_start(type("Trainer", (), {"global_step": 0}), made.model)  # type: ignore[arg-type]
    state = {"state_dict": made.model.state_dict(), "optimizer_states": [o.state_dict() for o in optimizers]}
    return state | ({"callbacks": {EMA.state_key: {"average": average.average}}} if made.ema else {})


def written(state: dict[str, Any]) -> int:
    """Bytes of a file."""
    file = io.BytesIO()
    torch.save(state, file)
    return file.tell()


# ---- agents


def played(name: str) -> Row:
    """Bytes of the weights and of a fragment, seconds to play it and to learn from it, bytes of a full replay buffer."""
    from ray_jobs.rl.contract import Alone, Replay
    from ray_jobs.rl.learning.learner import Learner
    from ray_jobs.rl.learning.setup import generator, runner_specs, untrained
    from ray_jobs.rl.learning.training import steps_each
    from ray_jobs.rl.rollout.runner import EnvRunner

    torch.set_num_threads(1)
    made = build(name, {})
    assert isinstance(made, Play)
    plan = made.algorithm.experience
    capacity = plan.capacity if isinstance(plan, Replay) else 0
    if capacity:
        made = replace(made, algorithm=replace(made.algorithm, buffer_size=REPLAYED, learning_starts=0))
    actor, horizon = untrained(made, 0), steps_each(plan, made.envs)
    runner = EnvRunner(runner_specs(made, 0, 0, 1, 1)[0])
    learner = Learner(
        made.algorithm,
        actor,
        Alone(generator(0, 0)),
        envs=made.envs,
        normalize_reward=False,
        device=torch.device("cpu"),
    )
    weights = actor.pack()
    play = lambda: runner.play(weights, 0, horizon)  # noqa: E731
    first, (fragment, play_s) = play(), timed(play)
    learner.learn([first], made.envs * horizon)
    _, learn_s = timed(lambda: learner.learn([fragment], 2 * made.envs * horizon))
    held = sum(x[0].nbytes // made.envs for x in learner.buffer.ring.data.values()) if learner.buffer else 0
    return {
        "weight_bytes": weights.nbytes, "envs": made.envs, "horizon": horizon,
        "fragment_bytes": sum(x.nbytes for x in (*fragment.steps, *fragment.extras.values())),
        "play_s": play_s, "learn_s": learn_s, "save_every": made.save_every, "steps": made.steps,
        "replay_bytes": held * capacity,
    }  # fmt: skip


def timed(do: Callable[[], Any], seconds: float = 1.0) -> tuple[Any, float]:
    """What it gives, and the mean seconds of a processor that it takes, over a second at least: others here change them little."""
    started, done = time.process_time(), 0
    while (took := time.process_time() - started) < seconds or not done:
        answer, done = do(), done + 1
    return answer, took / done


def main() -> None:
    """Measure, and print or record the result."""
    args = arguments(__doc__ or "", rounds=1).parse_args()
    report = Report("sizes", args.out)
    report.part("generative models", paper_scale(Fit), args.rounds, lambda name, _: fitted(name))
    report.part("agents", paper_scale(Play), args.rounds, lambda name, _: played(name))


if __name__ == "__main__":
    main()
