"""What every PPO script shares: its arguments, the clock, the evaluation and the one line that it prints.

Runs in each peer's environment, so it needs nothing but Gymnasium and numpy. The defaults are the published settings
of rl-baselines3-zoo for PPO on CartPole-v1.
"""

import argparse
import collections
import json
import os
import time

import gymnasium
import numpy as np


def arguments() -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--until", type=float, help="stop at this mean return of the last 100 episodes")
    parser.add_argument("--envs", type=int, default=8)
    parser.add_argument("--horizon", type=int, default=32)
    parser.add_argument("--minibatch", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--gamma", type=float, default=0.98)
    parser.add_argument("--lam", type=float, default=0.8)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--clip", type=float, default=0.2)
    parser.add_argument("--entropy", type=float, default=0.0)
    parser.add_argument("--anneal", type=int, default=1, help="1: learning rate and clip fall linearly to 0")
    parser.add_argument("--source", help="where the peer is checked out, if it is not a package")
    return parser.parse_args()


class Clock:
    """Times since the harness launched the process."""

    def __init__(self) -> None:
        self.launched = float(os.environ.get("BENCH_LAUNCHED", time.time()))
        self.began = self.launched

    def begin(self) -> None:
        """Training starts now: imports and construction are over."""
        self.began = time.time()

    def rate(self, steps: int) -> float:
        """Environment steps per second of training."""
        return steps / (time.time() - self.began)

    def since_launch(self) -> float:
        """Seconds since the launch."""
        return time.time() - self.launched

    def startup(self) -> float:
        """Seconds from the launch to the start of the training."""
        return self.began - self.launched


class Returns:
    """Mean return of the last 100 training episodes."""

    def __init__(self, until: float | None) -> None:
        self.until = until
        self.last: collections.deque[float] = collections.deque(maxlen=100)

    def reached(self) -> bool:
        """Whether the last 100 episodes average the target."""
        full = len(self.last) == self.last.maxlen
        return self.until is not None and full and sum(self.last) / len(self.last) >= self.until


def greedy_return(act, episodes: int = 100, seed: int = 10_000) -> float:
    """Mean return of `episodes` episodes of `act`: observations [N, 4] -> actions [N], on environments of its own."""
    envs = [gymnasium.make("CartPole-v1") for _ in range(episodes)]
    obs = np.stack([env.reset(seed=seed + i)[0] for i, env in enumerate(envs)])
    alive, total = np.ones(episodes, bool), np.zeros(episodes)
    while alive.any():
        actions = act(obs)
        for i in np.flatnonzero(alive):
            obs[i], reward, terminated, truncated, _ = envs[i].step(int(actions[i]))
            total[i] += reward
            alive[i] = not (terminated or truncated)
    return float(total.mean())


def emit(*, rate: float, hit: float | None, steps: int, score: float | None, clock: Clock) -> None:
    """Print the row; `hit` is the time since launch at which the wanted return was reached."""
    row = {
        "env_steps_per_s": rate,
        "seconds_to_475": hit,
        "startup_s": clock.startup(),
        "steps": steps,
        "return": score,
    }
    print("\n" + json.dumps(row), flush=True)
