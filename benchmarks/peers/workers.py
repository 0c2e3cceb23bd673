"""What the scripts of `benchmarks.impala` share: their arguments and the row that they print. Nothing but the standard library."""

import argparse
import json
import time


def arguments() -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--runners", type=int, default=1, help="processes that play")
    parser.add_argument("--envs", type=int, default=16, help="environments of each runner")
    parser.add_argument("--horizon", type=int, default=16, help="steps of each environment in a fragment")
    parser.add_argument("--gamma", type=float, default=0.98)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--entropy", type=float, default=0.001)
    parser.add_argument("--algorithm", default="IMPALA")
    return parser.parse_args()


class Pace:
    """Steps per second from the first report of progress to the last: processes start, and warm up, before it."""

    def __init__(self) -> None:
        self.first: tuple[float, int] | None = None
        self.last = (0.0, 0)

    def saw(self, steps: int) -> None:
        """So many environment steps are done by now."""
        if steps:
            self.last = (time.perf_counter(), steps)
            self.first = self.first or self.last

    def rate(self) -> float:
        """Environment steps per second."""
        (started, before), (ended, after) = self.first or (0.0, 0), self.last
        return (after - before) / (ended - started)


def emit(pace: Pace, score: float | None, **more: float) -> None:
    """Print the row; `score` is the mean return of the last training episodes, 100 where the peer lets one choose."""
    row = {"env_steps_per_s": pace.rate(), "steps": pace.last[1], "train_return": score}
    print("\n" + json.dumps(row | more), flush=True)
