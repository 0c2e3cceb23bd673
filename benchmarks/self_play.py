"""Simulations per second of tree search on connect-4, on one thread: with a perceptron, as in self-play, and with one random play-out.

Play-outs are compared with OpenSpiel's searches in Python and in C++, where the package open_spiel is installed in this environment. Ours
searches many games at once, which is what self-play needs; OpenSpiel's searches one after the other. All play from the empty board with the
same number of simulations for a move.

    python -m benchmarks.self_play --rounds 3
"""

from __future__ import annotations

import importlib.util
import sys

from benchmarks.harness import Contender, Report, Row, arguments, console, measure

LIMIT = 300.0
"""Seconds of one measurement."""


def part(report: Report, title: str, who: dict[str, Contender], rounds: int) -> None:
    """Measure the contenders of a part in turn."""

    def once(name: str, _: int) -> Row:
        return measure(who[name].command(sys.executable), ours=who[name].peer == "reprise", limit=LIMIT)

    report.part(title, list(who), rounds, once)
    report.show(title, ["simulations_per_s"], "simulations_per_s")


def ours(kind: str, games: int, simulations: int) -> Contender:
    """Our search of so many games at once."""
    words = (kind, "--games", str(games), "--simulations", str(simulations))
    return Contender("", "reprise", "self_play.py", words)


def main() -> None:
    """Measure, and print or record the result."""
    parser = arguments(__doc__ or "", rounds=3)
    parser.add_argument("--simulations", type=int, default=100, help="for each move (default %(default)s)")
    parser.add_argument("--games", type=int, nargs="+", default=[256, 64], help="at once (default %(default)s)")
    args = parser.parse_args()
    report = Report("self_play", args.out)
    networks = {f"perceptron, {n} games": ours("perceptron", n, args.simulations) for n in args.games}
    playouts = {f"reprise, {n} games": ours("playouts", n, args.simulations) for n in args.games}
    if importlib.util.find_spec("pyspiel"):
        words = ("--simulations", str(args.simulations))
        for language in ("cpp", "python"):
            playouts[f"OpenSpiel, {language}"] = Contender("", "open_spiel", "search.py", (language, *words))
    else:
        console.print("OpenSpiel is not installed here, so there is nothing to compare with: pip install open_spiel")
    part(report, "a perceptron of 256 units", networks, args.rounds)
    part(report, "one random play-out", playouts, args.rounds)


if __name__ == "__main__":
    main()
