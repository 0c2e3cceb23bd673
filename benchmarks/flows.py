"""Sampling of MAF at 43 dimensions, training of MAF, RealNVP and Glow, against zuko, nflows and normflows; one thread each.

Depth, width, data and optimiser are the same (`peers/flow_work.py`). The number of parameters is recorded with the rate,
because the layers differ in detail.

    python -m benchmarks.flows --rounds 3
"""

from __future__ import annotations

from benchmarks.harness import Contender, Report, Row, arguments, interpreter, measure
from benchmarks.peers.flow_work import WORK

CONTENDERS = {
    "Reprise": Contender("Reprise", "reprise", "flows.py"),
    "zuko": Contender("zuko", "zuko", "flows.py"),
    "nflows": Contender("nflows", "nflows", "flows.py"),
    "normflows": Contender("normflows", "normflows", "flows.py"),
}
COMPARED = {
    "glow_train": ["Reprise", "normflows"],
    "maf_sample": ["Reprise", "zuko", "nflows"],
    "maf_train": ["Reprise", "zuko", "nflows"],
}
"""Who is measured, where it is not all: normflows's masked flow is quick to sample and slow to train, an IAF; only it has a Glow."""


def contenders(work: str) -> list[str]:
    """The contenders of a piece of work."""
    return COMPARED.get(work, list(CONTENDERS))


def main() -> None:
    """Measure, and print or record the result."""
    parser = arguments(__doc__ or "", rounds=3)
    parser.add_argument("--work", nargs="*", choices=WORK, default=list(WORK))
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (default %(default)s)")
    args = parser.parse_args()
    for name in {name for work in args.work for name in contenders(work)}:
        interpreter(CONTENDERS[name].peer, args.venvs)
    report = Report("flows", args.out)

    for work in args.work:

        def once(name: str, seed: int, work: str = work) -> Row:
            who = CONTENDERS[name]
            words = [work, "--seed", str(seed), "--seconds", str(args.seconds)]
            command = [*who.command(interpreter(who.peer, args.venvs)), *words]
            return measure(command, ours=who.peer == "reprise", limit=120)

        report.part(work, contenders(work), args.rounds, once)
    for work in args.work:
        report.show(work, ["calls_per_s", "ms", "parameters"], "calls_per_s")


if __name__ == "__main__":
    main()
