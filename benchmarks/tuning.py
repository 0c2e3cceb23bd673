"""Seconds that a trial costs beyond its training: hundreds of very short ones by `reprise tune`, against a process for each.

The naive way starts `reprise train` for each trial, as many at a time, with the same settings; as each of its processes is
like the others, fewer of them say as much. Memory, processes and open files are those of all processes together, after 5, 50 and 95
percent of the trials, and `left_behind` are the processes ten seconds after the end.

    python -m benchmarks.tuning --trials 200 --naive 40
"""

from __future__ import annotations

from benchmarks.harness import Contender, Report, Row, arguments, interpreter, measure

KINDS = {"a model's (MAF)": "fit", "an agent's (PPO)": "play"}


def contenders(kind: str, args) -> dict[str, Contender]:
    """Ours first: the table shows what share of the other's overhead ours is."""
    common = (kind, "--at_once", str(args.at_once))
    ways = {"reprise tune": ("search", args.trials), "a process each": ("processes", args.naive)}
    return {
        name: Contender(name, "reprise", "tuning.py", (way, *common, "--trials", str(n)))
        for name, (way, n) in ways.items()
    }


def main() -> None:
    """Measure, and print or record the result."""
    parser = arguments(__doc__ or "", rounds=1)
    parser.add_argument("--trials", type=int, default=200, help="of the search (default %(default)s)")
    parser.add_argument("--naive", type=int, default=40, help="processes of the naive way (default %(default)s)")
    parser.add_argument("--at_once", type=int, default=2, help="trials at a time (default %(default)s)")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds for one measurement (default %(default)s)")
    args = parser.parse_args()
    report = Report("tuning", args.out)
    parts = {f"{title} {args.trials} trials": kind for title, kind in KINDS.items()}

    for title, kind in parts.items():
        who = contenders(kind, args)

        def once(name: str, _: int, who: dict[str, Contender] = who) -> Row:
            return measure(who[name].command(interpreter("reprise", args.venvs)), ours=True, limit=args.limit)

        report.part(title, list(who), args.rounds, once)
    memory = [f"{what}_{moment}" for what in ("processes", "largest_mb") for moment in ("first", "last")]
    for title in parts:
        report.show(title, ["train_s", "slot_s", "over_s", *memory, "left_behind"], "over_s")


if __name__ == "__main__":
    main()
