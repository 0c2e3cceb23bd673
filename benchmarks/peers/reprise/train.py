"""`reprise train ppo_cartpole` as a user runs it: run folder, metrics, checkpoints, TensorBoard and evaluation.

The time of the wanted return is that of the last line of metrics, which is written when the training stops itself.
"""

import argparse
import json
import os
import time

import product
from protocol import Clock, emit


def main() -> None:
    """Measure, and print or record the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", default="0")
    seed = parser.parse_args().seed
    clock = Clock()
    clock.launched = time.time()  # the start of this script is not the product's
    process = product.start("train", "ppo_cartpole", "--stop-return", "475", "--seed", seed)
    if process.wait():
        raise SystemExit(process.returncode)
    found = json.loads((product.RUN / "result.json").read_text())["metrics"]
    ended = os.stat(product.RUN / "metrics.jsonl").st_mtime
    clock.began = ended - found["train_seconds"]
    hit = ended - clock.launched if "seconds_to_return" in found else None
    steps = int(found["env_steps"])
    emit(rate=steps / found["train_seconds"], hit=hit, steps=steps, score=found["episode_return"], clock=clock)


main()
