"""CleanRL's single-file PPO on CartPole-v1, run as it is from a checked-out copy (`--source`).

Its clip coefficient does not fall, and its number of minibatches follows from the batch. Its value loss is clipped by
default; the zoo's is not, so that is switched off.
"""

import runpy
import sys
import time
from pathlib import Path

import numpy as np
import torch
from protocol import Clock, Returns, arguments, emit, greedy_return
from torch.utils import tensorboard


class Reached(Exception):
    """The wanted return is there: leave CleanRL's loop."""


def listen(clock: Clock, returns: Returns, seen: dict[str, float]) -> type:
    """CleanRL's log writer, with an ear for its episodes, which may end the training, and for its speed."""

    class Writer(tensorboard.SummaryWriter):
        def add_scalar(self, tag, value, step):
            super().add_scalar(tag, value, step)
            if tag == "charts/episodic_return":
                returns.last.append(float(np.asarray(value).item()))
                if returns.reached():
                    seen.update(hit=clock.since_launch(), steps=step)
                    raise Reached
            elif tag == "charts/SPS":  # its own rate, the last thing that it logs in an iteration
                clock.began = time.time() - step / value
                seen.update(rate=value, steps=step)

    return Writer


def command(args) -> list[str]:
    """CleanRL's command line for these settings."""
    minibatches = args.envs * args.horizon // args.minibatch
    settings = {
        "total-timesteps": args.steps, "num-envs": args.envs, "num-steps": args.horizon,
        "num-minibatches": minibatches, "update-epochs": args.epochs, "gamma": args.gamma, "gae-lambda": args.lam,
        "learning-rate": args.lr, "clip-coef": args.clip, "ent-coef": args.entropy, "seed": args.seed,
    }  # fmt: skip
    flags = ["--no-cuda", "--no-clip-vloss", "--anneal-lr" if args.anneal else "--no-anneal-lr"]
    return [word for key, value in settings.items() for word in (f"--{key}", str(value))] + flags


def train(script: str):
    """The trained actor, or None when training ended early at the wanted return."""
    try:
        return runpy.run_path(script, run_name="__main__")["agent"].actor
    except Reached:
        return None


@torch.no_grad()
def score(actor) -> float | None:
    """The greedy return of the actor; None without one."""
    return actor and greedy_return(lambda obs: actor(torch.as_tensor(obs)).argmax(-1).numpy())


def main() -> None:
    """Measure, and print or record the result."""
    args, clock, seen = arguments(), Clock(), {}
    torch.set_num_threads(1)
    tensorboard.SummaryWriter = listen(clock, Returns(args.until), seen)
    script = str(Path(args.source) / "cleanrl" / "ppo.py")
    sys.argv = [script, *command(args)]
    actor = train(script)
    emit(rate=seen["rate"], hit=seen.get("hit"), steps=seen["steps"], score=score(actor), clock=clock)


main()
