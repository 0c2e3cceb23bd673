"""Seeds of one recipe trained in this process, together or one after the other: updates and steps of all seeds per second."""

import argparse
import json
import time

import torch

from ray_jobs.recipe.plan import Play
from ray_jobs.rl.algorithms.off_policy.dqn import DQN
from ray_jobs.rl.algorithms.off_policy.sac import SAC
from ray_jobs.rl.algorithms.off_policy.td3 import TD3
from ray_jobs.rl.algorithms.policy_gradient.a2c import A2C
from ray_jobs.rl.algorithms.policy_gradient.ppo import PPO
from ray_jobs.rl.learning import setup
from ray_jobs.rl.learning.learner import Learner
from ray_jobs.rl.learning.play import play
from ray_jobs.rl.together.play import play_together

PLANS = {
    "dqn": lambda w: Play(DQN(50_000, width=w), "CartPole-v1", steps=10_000, envs=8),
    "sac": lambda w: Play(SAC(50_000, width=w, batch_size=128, train_every=2), "Pendulum-v1", steps=4_000, envs=4),
    "td3": lambda w: Play(
        TD3(50_000, width=w, batch_size=128, train_every=8, updates_per_train=4), "Pendulum-v1", steps=5_000, envs=8
    ),
    "a2c": lambda w: Play(A2C(width=w), "CartPole-v1", steps=20_000, envs=16),
    "ppo": lambda w: Play(PPO(width=w), "CartPole-v1", steps=16_384, envs=8),
    "ppo_table3": lambda w: Play(PPO(2048, 10, 32, 3e-4, width=w), "Pendulum-v1", steps=4_096, envs=1),
}
"""Long enough, with replay buffers as small as recipes have them, that making those is nothing; trainings are several times as long."""


class Clocked(Learner):
    """Counts updates, and the processor's seconds in them, of all seeds: what waits for another process does not count."""

    cpu_s, updates = 0.0, 0

    def learn_from(self, *seen):
        """Learn, and add the CPU time and the updates."""
        started, before = time.process_time(), self.steps()
        try:
            return super().learn_from(*seen)
        finally:
            Clocked.cpu_s += time.process_time() - started
            Clocked.updates += self.steps() - before

    def steps(self) -> int:
        """Of the optimiser that takes most."""
        return max(o.steps for o in self.optimizers.values())


class Last:
    """A recorder that keeps the last metrics."""

    def log(self, step, metrics) -> None:
        """Keep the newest metrics."""
        self.metrics = dict(metrics)

    def save(self, step, state) -> None:
        """Do nothing."""


def main() -> None:
    """Measure, and print or record the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("algorithm", choices=list(PLANS))
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--apart", action="store_true", help="one after the other")
    args = parser.parse_args()
    torch.set_num_threads(1)
    setup.Learner = Clocked  # type: ignore[misc]
    plan = PLANS[args.algorithm](args.width)
    plan = Play(plan.algorithm, plan.env, plan.steps, plan.envs, eval_episodes=1, log_every=10**9, save_every=10**9)
    runs, seconds = [Last() for _ in range(args.seeds)], []
    started = time.process_time()
    if args.apart:
        seconds = [play(plan, seed=s, run=run)["train_seconds"] for s, run in enumerate(runs)]
    else:
        found: dict[int, float] = {}
        many = list(range(args.seeds))
        play_together(
            plan,
            many,
            runs,
            states=[None] * len(many),
            done=lambda i, m: found.update({i: m["train_seconds"]}),
            failed=lambda i, error: print(error),
        )
        seconds = [max(found.values())]
    updating = sum(s * run.metrics["share_update"] for s, run in zip(seconds, runs, strict=False))
    updates = Clocked.updates * (1 if args.apart else args.seeds)
    print(
        json.dumps(
            {
                "seed_updates_per_s": updates / updating,
                "seed_updates_per_cpu_s": updates / Clocked.cpu_s,
                "seed_steps_per_s": args.seeds * plan.steps / sum(seconds),
                "cpu_s_per_seed": (time.process_time() - started) / args.seeds,
            }
        )
    )


main()
