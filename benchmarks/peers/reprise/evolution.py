"""Generations of evolution strategies per second, with so many workers; and how long a shard and an update take."""

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
    args = parser.parse_args()
    es = replace(build(args.recipe, {}).process, pairs=args.pairs)
    state = es.begin(0)
    with OnRay(args.workers, 0) if args.workers > 1 else Here() as crew:
        for g in range(2):  # the workers start
            es.advance(state, g, 0, crew)
        step = len(state["returns"])
        begun, steps = time.monotonic(), state["env_steps"]
        for g in range(step, step + args.generations):
            es.advance(state, g, 0, crew)
        took = time.monotonic() - begun
    rates = {"generations_per_s": args.generations / took, "env_steps_per_s": (state["env_steps"] - steps) / took}
    print("\n" + json.dumps(rates | parts(es, state)))


def parts(es, state):
    """Seconds of each shard, of the centre and of the update of one more generation, in this process."""
    step = len(state["returns"])
    work = functools.partial(played, es, 0, step, Scalars(0, state["returns"], state["seen"]))
    work(CENTRE)
    shards = []
    for first in range(0, es.pairs, es.shard):
        begun = time.monotonic()
        work(first)
        shards.append(time.monotonic() - begun)
    weights, begun = es.weights(state, step), time.monotonic()
    weights.advance(es.rule(0), state["returns"][-1], state["seen"][-1])
    return {"shard_s": sorted(shards), "update_s": time.monotonic() - begun}


main()
