"""Our PPO on CartPole-v1, called as a library, with no run folder: the zoo's recipe, or with --until our own."""

import argparse

import torch
from protocol import Clock, emit

from ray_jobs.recipe.settings import build
from ray_jobs.rl.learning.play import play


class Watch:
    """A recorder that keeps the time of the last update and nothing else."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.ended = clock, 0.0

    def log(self, step, metrics) -> None:
        self.ended = self.clock.since_launch()

    def save(self, step, state) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--until", type=float)
    args = parser.parse_args()
    clock = Clock()
    torch.set_num_threads(1)
    watch = Watch(clock)
    recipe = build("ppo_cartpole", {"stop_return": args.until}) if args.until else build("ppo_cartpole_zoo", {})
    result = play(recipe, seed=args.seed, run=watch)
    clock.began = clock.launched + watch.ended - result["train_seconds"]
    hit = watch.ended if "seconds_to_return" in result else None
    steps = int(result["env_steps"])
    emit(rate=steps / result["train_seconds"], hit=hit, steps=steps, score=result["episode_return"], clock=clock)


main()
