"""Simulations per second of our search on connect-4, with a perceptron, with random play-outs or with neither, many games at once."""

import argparse
import json
import time

import numpy as np

from ray_jobs.self_play.games.in_a_row import CONNECT_4
from ray_jobs.self_play.networks import Evaluator, begin
from ray_jobs.self_play.search import Search, Uniform, playouts, search


def main() -> None:
    """Measure, and print the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["perceptron", "playouts", "uniform"])
    parser.add_argument("--games", type=int, default=256)
    parser.add_argument("--simulations", type=int, default=100)
    parser.add_argument("--moves", type=int, default=12)
    args = parser.parse_args()
    evaluate = {
        "perceptron": lambda: Evaluator(CONNECT_4, begin(CONNECT_4, 256, 1, False, 0)),
        "playouts": lambda: playouts(CONNECT_4, np.random.default_rng(0)),
        "uniform": lambda: Uniform(CONNECT_4),
    }[args.kind]()
    states, rng = CONNECT_4.begin(args.games), np.random.default_rng(0)
    search(CONNECT_4, states, evaluate, Search(5))
    done, begun = 0, time.perf_counter()
    for _ in range(args.moves):
        policy = search(CONNECT_4, states, evaluate, Search(args.simulations)).policy
        done += len(states) * args.simulations
        moves = (policy.cumsum(1) > rng.random((len(policy), 1))).argmax(1)
        states = CONNECT_4.play(states, moves)
        states = states[~CONNECT_4.over(states)]
    print("\n" + json.dumps({"simulations_per_s": done / (time.perf_counter() - begun)}))


main()
