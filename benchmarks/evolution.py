"""Evolution strategies on 1, 2, 4, ... workers of this machine, alternating; and what a generation costs at the paper's scale.

The first part ends with the speed-up over one worker as a share of the workers; each worker computes on one thread. The second measures,
in one process, the seconds of environment steps and of updates with the paper's humanoid, with independent and with low-rank
perturbations; `python -m benchmarks.arithmetic docs/scale.md` makes of them the simulation of up to 1,440 workers.

    python -m benchmarks.evolution --rounds 3
    python -m benchmarks.evolution --rounds 3 --only costs
"""

from __future__ import annotations

import os
import sys

from benchmarks.harness import Contender, Report, Row, arguments, console, measure, paired_ratio

LIMIT = 300.0
"""Seconds of one measurement."""


def scaling(report: Report, recipe: str, pairs: int, shard: int, workers: list[int], rounds: int) -> None:
    """Generations per second on each number of workers, and their speed-ups over one."""
    words = (recipe, "--pairs", str(pairs), "--shard", str(shard))
    who = {
        f"{n} worker{'s' * (n > 1)}": Contender("", "reprise", "evolution.py", (*words, "--workers", str(n)))
        for n in sorted(workers, reverse=True)
    }
    part(report, recipe, who, rounds)
    report.show(recipe, ["generations_per_s", "env_steps_per_s", "update_s"], "generations_per_s")
    rows = report.parts[recipe]
    for n in workers:
        name, alone = f"{n} worker{'s' * (n > 1)}", rows.get("1 worker", [])
        if n > 1 and (found := paired_ratio(rows[name], alone, "generations_per_s")):
            console.print(f"{name}: {found} times as fast as one, {found.median / n:.2f} of linear")


def costs(report: Report, rounds: int) -> None:
    """Seconds of the parts of a generation of the paper's humanoid."""
    words = ("es_humanoid", "--pairs", "64", "--workers", "0")
    who = {
        f"rank {rank}" if rank else "full rank": Contender("", "reprise", "evolution.py", (*words, "--rank", str(rank)))
        for rank in (0, 1)
    }
    part(report, "es_humanoid", who, rounds)
    report.show("es_humanoid", ["step_s", "update_s"], "update_s")


def part(report: Report, title: str, who: dict[str, Contender], rounds: int) -> None:
    """Measure the contenders of a part in turn."""

    def once(name: str, _: int) -> Row:
        return measure(who[name].command(sys.executable), ours=True, limit=LIMIT)

    report.part(title, list(who), rounds, once)


def main() -> None:
    """Measure, and print or record the result."""
    cores, parser = os.cpu_count() or 1, arguments(__doc__ or "", rounds=3)
    parser.add_argument("--only", choices=["workers", "costs"], help="one of the two parts")
    parser.add_argument("--recipe", default="es_pendulum")
    parser.add_argument("--pairs", type=int, default=64, help="of the first part (default %(default)s)")
    parser.add_argument("--shard", type=int, default=4, help="pairs of a shard in the first part (default %(default)s)")
    powers = [2**k for k in range(cores.bit_length())]
    parser.add_argument("--workers", type=int, nargs="+", default=powers, help="(default: powers of 2 up to the cores)")
    args = parser.parse_args()
    if args.only != "costs":
        report = Report("evolution", args.out)
        scaling(report, args.recipe, args.pairs, args.shard, sorted({1, *args.workers}), args.rounds)
    if args.only != "workers":
        costs(Report("evolution_costs", args.out if args.only else None), args.rounds)


if __name__ == "__main__":
    main()
