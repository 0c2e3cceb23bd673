"""Bandits, Q-learning and value iteration against other packages, in processes of one thread each.

Bandits: pulls per second, of 1,000 runs at once here, against one run of mabwiser and against a plain class for each run (`peers/raw`).
Q-learning on FrozenLake8x8-v1: steps per second, of 1,000 runs at once here, against one run of bettermdptools. Value iteration there:
solutions per second to 1e-10, against both of its ways.

    python -m benchmarks.tables --rounds 3
"""

from __future__ import annotations

from benchmarks.harness import Contender, Report, Row, arguments, interpreter, measure

ARMS = "0.9,0.8,0.8,0.8,0.7,0.7,0.7,0.6,0.6,0.6"
LIMIT = 120.0
"""Seconds of one measurement."""


def bandits(policy: str) -> dict[str, Contender]:
    """Who plays a bandit with this policy."""
    words = ("bandits", policy, ARMS)
    return {
        "Reprise": Contender("Reprise", "reprise", "tables.py", words),
        "mabwiser": Contender("mabwiser", "mabwiser", "bandits.py", words),
        "a class for each run": Contender("a class for each run", "raw", "bandits.py", words),
    }


def tables(part: str, *ways: str) -> dict[str, Contender]:
    """Who learns or solves FrozenLake8x8-v1."""
    ours = {"Reprise": Contender("Reprise", "reprise", "tables.py", (part,))}
    names = {f"bettermdptools {way}".strip(): (part, *filter(None, [way])) for way in ways or ("",)}
    return ours | {name: Contender(name, "bettermdptools", "tables.py", words) for name, words in names.items()}


PARTS = {policy: bandits(policy) for policy in ("epsilon-greedy", "UCB1", "Thompson")} | {
    "Q-learning": tables("q_learning"),
    "value iteration": tables("value_iteration", "value_iteration", "value_iteration_vectorized"),
}


def main() -> None:
    """Measure, and print or record the result."""
    args = arguments(__doc__ or "", rounds=3).parse_args()
    for peer in ("mabwiser", "bettermdptools"):
        interpreter(peer, args.venvs)
    report = Report("tables", args.out)
    for title, who in PARTS.items():

        def once(name: str, _: int, who: dict[str, Contender] = who) -> Row:
            command = who[name].command(interpreter(who[name].peer, args.venvs))
            return measure(command, ours=who[name].peer == "reprise", limit=LIMIT)

        report.part(title, list(who), args.rounds, once)
        report.show(title, ["per_s"], "per_s")


if __name__ == "__main__":
    main()
