"""Our IMPALA on CartPole-v1 with runners that are Ray actors, called as a library, with no run folder."""

import torch
from workers import Pace, arguments, emit

from ray_jobs.recipe import Play
from ray_jobs.rl.algorithms.impala import IMPALA
from ray_jobs.rl.runtime import play


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
    algorithm = IMPALA(horizon=args.horizon, lr=args.lr, gamma=args.gamma, entropy_weight=args.entropy)
    plan = Play(
        algorithm, "CartPole-v1", steps=args.steps, envs=args.envs, eval_episodes=1, log_every=2048, save_every=10**12
    )
    watch = Watch()
    result = play(plan, seed=args.seed, run=watch, runners=args.runners)
    emit(watch.pace, result["train_return"], **watch.means())


main()
