"""Generations of evolution strategies per second, with so many workers; with 0, how long environment steps and an update take."""

import argparse
import functools
import json
import time
from dataclasses import replace

from ray_jobs.distributed.crew import Here, OnRay
from ray_jobs.evolution.evolution_strategy import CENTRE, played
from ray_jobs.evolution.members import Scalars
from ray_jobs.recipe.settings import build


def main() -> None:
    """Measure, and print the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--shard", type=int, default=0)
    parser.add_argument("--rank", type=int, default=0)
    args = parser.parse_args()
    es = build(args.recipe, {}).process
    es = replace(es, pairs=args.pairs, rank=args.rank, shard=args.shard or es.shard)
    print("\n" + json.dumps(rates(es, args.workers, args.generations) if args.workers else parts(es)))


def rates(es, workers, generations):
    """Generations and environment steps per second, after two generations in which the workers start."""
    state = es.begin(0)
    with OnRay(workers, 0) if workers > 1 else Here() as crew:
        for g in range(2):
            es.advance(state, g, 0, crew)
        begun, steps = time.monotonic(), state["env_steps"]
        for g in range(2, 2 + generations):
            es.advance(state, g, 0, crew)
        took = time.monotonic() - begun
    weights, begun = es.weights(state, 2 + generations), time.monotonic()
    weights.advance(es.rule(0), state["returns"][-1], state["seen"][-1])
    return {
        "generations_per_s": generations / took,
        "env_steps_per_s": (state["env_steps"] - steps) / took,
        "update_s": time.monotonic() - begun,
    }


def parts(es):
    """Seconds for each environment step of a shard, network included, by shard; and of an update, in this process."""
    state = es.begin(0)
    es.advance(state, 0, 0, Here())
    work = functools.partial(played, es, 0, 1, Scalars(0, state["returns"], state["seen"]))
    work(CENTRE)
    by_shard = []
    for first in range(0, es.pairs, es.shard):
        begun = time.monotonic()
        steps = work(first).steps
        by_shard.append(round((time.monotonic() - begun) / steps, 6))
    updates = []
    for _ in range(3):
        weights, begun = es.weights(state, 1), time.monotonic()
        weights.advance(es.rule(0), state["returns"][-1], state["seen"][-1])
        updates.append(time.monotonic() - begun)
    return {
        "step_s": sorted(by_shard)[len(by_shard) // 2],
        "step_s_by_shard": by_shard,
        "update_s": min(updates),
        "pairs": es.pairs,
        "shard": es.shard,
        "weights": len(state["theta"]),
    }


main()
