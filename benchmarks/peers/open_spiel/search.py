"""Simulations per second of OpenSpiel's searches on connect-4 with one random play-out, in Python or in C++."""

import argparse
import json
import time

import numpy as np
import pyspiel


def main() -> None:
    """Measure, and print the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("language", choices=["cpp", "python"])
    parser.add_argument("--simulations", type=int, default=100)
    parser.add_argument("--moves", type=int, default=12)
    args = parser.parse_args()
    game = pyspiel.load_game("connect_four")
    bot = searcher(args.language, game, args.simulations)
    done, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < 5:
        state = game.new_initial_state()
        for _ in range(args.moves):
            if not state.is_terminal():
                state.apply_action(bot.step(state))
                done += args.simulations
    print("\n" + json.dumps({"simulations_per_s": done / (time.perf_counter() - begun)}))


def searcher(language, game, simulations):
    """The search without its solver of finished subtrees, which ours has not either."""
    if language == "cpp":
        evaluator = pyspiel.RandomRolloutEvaluator(1, 0)
        return pyspiel.MCTSBot(game, evaluator, 2.0, simulations, 1000, False, 0, False)
    from open_spiel.python.algorithms import mcts

    rng = np.random.RandomState(0)
    return mcts.MCTSBot(game, 2.0, simulations, mcts.RandomRolloutEvaluator(1, rng), solve=False, random_state=rng)


main()
