"""`reprise train ppo_cartpole` as a user runs it: run folder, metrics, checkpoints, TensorBoard and evaluation.

The time of the wanted return is that of the last line of metrics, which is written when the training stops itself.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from protocol import Clock, emit

COMMAND = [sys.executable, "-c", "import sys; from ray_jobs.cli import main; sys.exit(main())"]


def main() -> None:
    seed = sys.argv[sys.argv.index("--seed") + 1]
    run, began = Path("run"), time.time()
    clock = Clock()
    clock.launched = began  # this script's own start is not ours to count
    words = ["train", "ppo_cartpole", "--stop-return", "475", "--seed", seed, "--out", str(run)]
    subprocess.run([*COMMAND, *words], check=True, stdout=sys.stderr)
    found = json.loads((run / "result.json").read_text())["metrics"]
    ended = os.stat(run / "metrics.jsonl").st_mtime
    clock.began = ended - found["train_seconds"]
    hit = ended - clock.launched if "seconds_to_return" in found else None
    steps = int(found["env_steps"])
    emit(rate=steps / found["train_seconds"], hit=hit, steps=steps, score=found["episode_return"], clock=clock)


main()
