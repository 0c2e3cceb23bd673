"""What every flow script shares: the sizes of the models, the clock and the one line that it prints. Needs nothing but torch.

Each contender's model has the same depth, width and data; its number of parameters is recorded with its rate.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

SIZE, ROWS = 43, 512
MAF = {"depth": 5, "width": 128}
REALNVP = {"depth": 8, "width": 128}
GLOW = {"shape": (3, 32, 32), "rows": 16, "steps": 8, "scales": 3, "width": 128}
WORK = ("maf_sample", "maf_train", "realnvp_train", "glow_train")


def arguments() -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=WORK)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=5.0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    return args


def batch(work: str) -> torch.Tensor:
    """What is trained on: standard normal numbers."""
    return torch.randn(GLOW["rows"], *GLOW["shape"]) if work == "glow_train" else torch.randn(ROWS, SIZE)


def trainer(model: nn.Module, log_prob: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> Callable[[], None]:
    """One step of Adam on the likelihood, the same for all: fused, 1e-4."""
    adam = torch.optim.Adam(model.parameters(), 1e-4, fused=True)

    def step() -> None:
        adam.zero_grad(set_to_none=True)
        (-log_prob(x).mean()).backward()
        adam.step()

    return step


def emit(work: str, model: nn.Module, once: Callable[[], object], seconds: float) -> None:
    """Call `once` for so long, after three calls that do not count, and print the median time of a call."""
    for _ in range(3):
        once()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        started = time.perf_counter()
        once()
        times.append(time.perf_counter() - started)
    median = statistics.median(times)
    weights = sum(p.numel() for p in model.parameters())
    row = {"calls_per_s": 1 / median, "ms": 1000 * median, "calls": len(times), "parameters": weights, "work": work}
    print("\n" + json.dumps(row), flush=True)
