"""Evolution strategies on 1 and 2 workers of this machine, alternating, and a simulation of up to 1,440 workers.

Each worker computes on one thread. The simulation takes the measured seconds of shards and of the update: a driver hands a shard to the
next idle worker, which costs it 1 ms (a call to a Ray actor); then every process, the driver too, computes the update. Pairs grow with the
workers where the column says so, otherwise they stay.

    python -m benchmarks.evolution --rounds 3
"""

from __future__ import annotations

import heapq
import random
import sys

from rich.table import Table

from benchmarks.harness import Contender, Report, Row, arguments, console, measure

CALL = 1e-3
"""Seconds of the driver for each call."""
WORKERS = (1, 2, 8, 64, 360, 1440)


def generation(shards: list[float], update: float, workers: int) -> float:
    """Seconds of a generation: each shard goes to the worker that is idle first, one call after the other."""
    idle, driver = [0.0] * workers, 0.0
    for seconds in shards:
        driver += CALL
        heapq.heappush(idle, max(heapq.heappop(idle), driver) + seconds)
    return max(idle) + update


def simulated(row: Row, pairs: int, shard: int, shards: int) -> Table:
    """Speed-ups with as many shards as asked for, of a measurement with `pairs` pairs; an update takes as long as it has pairs."""
    rng, measured = random.Random(0), row["shard_s"]
    drawn, update = rng.choices(measured, k=shards), row["update_s"] * shards * shard / pairs
    alone = generation(drawn, update, 1)
    table = Table(title=f"simulated: {shards * shard:,} pairs in {shards:,} shards")
    for heading in ("workers", "seconds of a generation", "speed-up", "share of it in the update"):
        table.add_column(heading, justify="right")
    for workers in WORKERS:
        took = generation(drawn, update, workers)
        table.add_row(f"{workers:,}", f"{took:.3g}", f"{alone / took:.1f}", f"{update / took:.0%}")
    return table


def main() -> None:
    """Measure, and print or record the result."""
    parser = arguments(__doc__ or "", rounds=3)
    parser.add_argument("--recipe", default="es_pendulum")
    parser.add_argument("--pairs", type=int, default=64, help="of the measurement (default %(default)s)")
    parser.add_argument("--shard", type=int, default=16, help="pairs of a shard in the recipe (default %(default)s)")
    args = parser.parse_args()
    report = Report("evolution", args.out)
    words = (args.recipe, "--pairs", str(args.pairs))
    who = {
        f"{n} worker{'s' * (n > 1)}": Contender("", "reprise", "evolution.py", (*words, "--workers", str(n)))
        for n in (2, 1)
    }

    def once(name: str, _: int) -> Row:
        return measure(who[name].command(sys.executable), ours=True, limit=300)

    report.part(args.recipe, list(who), args.rounds, once)
    report.show(args.recipe, ["generations_per_s", "env_steps_per_s", "update_s"], "generations_per_s")
    alone = report.parts[args.recipe]["1 worker"][-1]
    for shards in (args.pairs // args.shard, 1440):
        console.print(simulated(alone, args.pairs, args.shard, shards))


if __name__ == "__main__":
    main()
