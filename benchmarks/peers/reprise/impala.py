"""Our IMPALA on CartPole-v1 with runners that are Ray actors, as a library and with no run folder, stopped after so many steps."""

from dataclasses import replace

import torch
from workers import Pace, arguments, emit

from ray_jobs.recipe.settings import build
from ray_jobs.rl.learning.play import play


class Watch:
    """A recorder that keeps the pace, and the shares of time since the last log, weighed by nothing."""

    def __init__(self) -> None:
        self.pace, self.shares = Pace(), []

    def log(self, step, metrics) -> None:
        self.pace.saw(step)
        self.shares.append({k: v for k, v in metrics.items() if k.startswith("share_") or k == "policy_lag"})

    def save(self, step, state) -> None: ...

    def means(self) -> dict[str, float]:
        return {k: sum(s[k] for s in self.shares) / len(self.shares) for k in self.shares[0]}


def main() -> None:
    args = arguments()
    torch.set_num_threads(1)
    recipe = build(
        "impala_cartpole",
        {
            "envs": args.envs * args.runners,
            "horizon": args.horizon,
            "lr": args.lr,
            "gamma": args.gamma,
            "entropy_weight": args.entropy,
            "stop_return": 1000.0,
        },
    )
    watch = Watch()
    plan = replace(recipe, log_every=2048, save_every=10**12)
    enough = lambda: watch.pace.last[1] >= args.steps  # noqa: E731
    result = play(plan, seed=args.seed, run=watch, runners=args.runners, should_stop=enough)
    emit(watch.pace, result["train_return"], **watch.means())


main()
