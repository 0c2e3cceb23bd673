"""The gap to the entropy of MAF, RealNVP and spline flows on three exact densities, against zuko, nflows and normflows; one thread each.

Depth, width, batch, steps, optimiser and examples are the same (`peers/density_work.py`); the gap is the mean over 20,000 fresh points,
with its standard error; a round is a seed.

    python -m benchmarks.densities --rounds 3
"""

from __future__ import annotations

import statistics

from benchmarks.harness import Contender, Report, Row, arguments, column, console, interpreter, measure
from benchmarks.peers.density_work import DENSITIES, STEPS, WORK

CONTENDERS = {
    "Reprise": Contender("Reprise", "reprise", "densities.py"),
    "zuko": Contender("zuko", "zuko", "densities.py"),
    "nflows": Contender("nflows", "nflows", "densities.py"),
    "normflows": Contender("normflows", "normflows", "densities.py"),
}
COMPARED = {
    "maf": ["Reprise", "zuko", "nflows"],
    "realnvp": ["Reprise", "zuko", "nflows", "normflows"],
    "nsf": ["Reprise", "nflows", "normflows"],
    "nsf_autoregressive": ["Reprise", "zuko", "nflows"],
}
"""Who has it: normflows's masked flow is an IAF, zuko's spline flow is autoregressive."""


def over_seeds(rows: list[Row]) -> str:
    """Mean gap in nats and its standard error over seeds."""
    gaps = column(rows, "excess_nats")
    if len(gaps) < 2:
        return f"{gaps[0]:.4f}" if gaps else "none"
    return f"{statistics.mean(gaps):.4f} +- {statistics.stdev(gaps) / len(gaps) ** 0.5:.4f}"


def main() -> None:
    """Measure, and print or record the result."""
    parser = arguments(__doc__ or "", rounds=3)
    parser.add_argument("--work", nargs="*", choices=WORK, default=list(WORK))
    parser.add_argument("--density", nargs="*", choices=DENSITIES, default=list(DENSITIES))
    parser.add_argument("--steps", type=int, default=STEPS, help="of training (default %(default)s)")
    args = parser.parse_args()
    for name in {name for work in args.work for name in COMPARED[work]}:
        interpreter(CONTENDERS[name].peer, args.venvs)
    report = Report("densities", args.out)
    parts = [(work, density) for density in args.density for work in args.work]

    for work, density in parts:

        def once(name: str, seed: int, work: str = work, density: str = density) -> Row:
            who = CONTENDERS[name]
            words = [work, density, "--seed", str(seed), "--steps", str(args.steps)]
            command = [*who.command(interpreter(who.peer, args.venvs)), *words]
            return measure(command, ours=who.peer == "reprise", limit=600)

        report.part(f"{work}, {density}", COMPARED[work], args.rounds, once)
    for work, density in parts:
        title = f"{work}, {density}"
        report.show(title, ["excess_nats", "standard_error", "train_s", "parameters"], "excess_nats")
        gaps = {name: over_seeds(rows) for name, rows in report.parts[title].items()}
        console.print(f"{title}, mean over seeds: " + "; ".join(f"{k} {v}" for k, v in gaps.items()), highlight=False)


if __name__ == "__main__":
    main()
