"""What `benchmarks.rl_speed` trains, in plain numbers that our script and the peers' both read; nothing but the standard library.

a2c and dqn have the settings of rl-baselines3-zoo for CartPole-v1; sac and td3 those of their papers on HalfCheetah-v5.
"""

import argparse
import json

A2C = {"env": "CartPole-v1", "envs": 8, "steps": 100_000, "horizon": 5, "lr": 7e-4, "gamma": 0.99, "width": 64}
DQN = {
    "env": "CartPole-v1", "envs": 1, "steps": 50_000, "lr": 2.3e-3, "batch": 64, "capacity": 100_000, "warmup": 1000,
    "gamma": 0.99, "every": 256, "updates": 128, "width": 256, "explore_for": 0.16, "epsilon": 0.04,
}  # fmt: skip
OFF_POLICY = {
    "env": "HalfCheetah-v5", "envs": 1, "steps": 1500, "warmup": 100, "batch": 256, "width": 256, "capacity": 1_000_000,
    "gamma": 0.99, "tau": 0.005, "every": 1, "updates": 1,
}  # fmt: skip
WORK = {"a2c": A2C, "dqn": DQN, "sac": OFF_POLICY | {"lr": 3e-4}, "td3": OFF_POLICY | {"lr": 1e-3}}


def arguments() -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("algorithm", choices=list(WORK))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--matmul", default="float32", help="what our own learner multiplies in")
    return parser.parse_args()


def emit(name: str, steps: int, seconds: float, score: float | None) -> None:
    """Print the row: rates over the whole training, without imports and evaluation."""
    w = WORK[name]
    updates = (
        steps / (w["horizon"] * w["envs"]) if "horizon" in w else (steps - w["warmup"]) / w["every"] * w["updates"]
    )
    row = {"env_steps_per_s": steps / seconds, "updates_per_s": updates / seconds, "return": score}
    print("\n" + json.dumps(row), flush=True)


def wavenet_arguments() -> argparse.Namespace:
    """What every script that times a WaveNet takes: the network's size, waves at once and samples of each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    for name, value in (
        ("layers", 24),
        ("stacks", 4),
        ("residual", 64),
        ("skip", 256),
        ("waves", 1),
        ("samples", 1000),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    return parser.parse_args()


def wavenet_emit(args: argparse.Namespace, seconds: float) -> None:
    """The row of such a script."""
    print("\n" + json.dumps({"samples_per_s": args.waves * args.samples / seconds, "seconds": seconds}))
