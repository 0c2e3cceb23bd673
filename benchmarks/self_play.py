"""Simulations per second of tree search on connect-4, on one thread: with a perceptron, as in self-play, and without a network.

Search without a network, of even values or of one random play-out, is compared with OpenSpiel's searches in Python and in C++, in an
environment of its own. Ours searches many games at once, which is what self-play needs; OpenSpiel's searches one after the other. All play
from the empty board with the same number of simulations for a move.

    python -m benchmarks.self_play --rounds 3
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.harness import Contender, Report, Row, arguments, interpreter, measure

LIMIT = 300.0
"""Seconds of one measurement."""


def part(report: Report, title: str, who: dict[str, Contender], rounds: int, venvs: Path) -> None:
    """Measure the contenders of a part in turn."""

    def once(name: str, _: int) -> Row:
        command = who[name].command(interpreter(who[name].peer, venvs))
        return measure(command, ours=who[name].peer == "reprise", limit=LIMIT)

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
    without = {
        f"{name}, {n} games": ours(kind, n, args.simulations)
        for name, kind in {"Reprise, even values": "uniform", "Reprise, play-outs": "playouts"}.items()
        for n in args.games
    }
    words = ("--simulations", str(args.simulations))
    for language in ("cpp", "python"):
        without[f"OpenSpiel, play-outs, {language}"] = Contender("", "open_spiel", "search.py", (language, *words))
    part(report, "a perceptron of 256 units", networks, args.rounds, args.venvs)
    part(report, "without a network", without, args.rounds, args.venvs)


if __name__ == "__main__":
    main()
