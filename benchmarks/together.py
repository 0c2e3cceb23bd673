"""Seeds trained together in one process against the same seeds one after the other, one thread each, alternating.

`seed_updates_per_s` is of the time in updates, `seed_updates_per_cpu_s` of the processor's time in them, which knows no other process,
and `seed_steps_per_s` of the whole training: environments, which are stepped seed by seed,
gain nothing. `cpu_s_per_seed` is of whole trainings with their evaluation (of one episode), and knows no other process.

`ppo_table3` is PPO as Schulman et al. 2017 (table 3) train networks of 64 x 64: minibatches of 64. `ppo` has minibatches of 256, and is
bound by its sums. Most of what a seed alone takes for the 13.4 MFLOP of products in an update are calls, not products. Together, batched
products reach about 150 GFLOP/s where one core reached 181 on products of 1024 x 1024, but biases, tanh and its slope each pass once more
over numbers that the cache of a core no longer holds. If all else were free (the optimiser, the shuffling, the loss) that would be 4.4
times one after the other. Eight seeds at a time, forth and at once back, take four fifths of it by themselves, but then their losses must
be coded by hand: differentiated for eight seeds at a time they take what was gained. The ratios fall whenever a seed alone becomes quicker,
and when the processor itself does: other users of its host slow a seed alone more than seeds together. These figures are of an Intel Xeon
with AMX; a Zen 5 trains a seed alone twice as quick, and seeds together too. What it costs to begin so many operations is shared by the
seeds: the smaller an update is, the more of them it takes until they gain no more.

    python -m benchmarks.together --rounds 5
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.harness import Contender, Report, Row, arguments, interpreter, measure

CASES = ["dqn-64", "sac-64", "td3-64", "a2c-64", "ppo_table3-64", "ppo-64", "dqn-256"]
APART = 2
"""Seeds that are trained one after the other: enough for a rate."""


def main() -> None:
    """Measure, and print or record the result."""
    parser = arguments(__doc__ or "", rounds=3)
    parser.add_argument("--cases", nargs="*", default=CASES, help="algorithm-width (default %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="*", default=[64], help="together (default %(default)s)")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for one measurement (default %(default)s)")
    args = parser.parse_args()
    report = Report("together", args.out)
    parts = {f"{case}, {n} seeds": (*case.split("-"), n) for case in args.cases for n in args.seeds}

    for title, (algorithm, width, n) in parts.items():
        ways = {"together": ("--seeds", str(n)), "one after the other": ("--seeds", str(APART), "--apart")}
        common = (algorithm, "--width", width)

        def once(name: str, seed: int, ways: Mapping = ways, common: tuple[str, ...] = common) -> Row:
            who = Contender(name, "reprise", "together.py", (*common, *ways[name]))
            return measure(who.command(interpreter(who.peer, args.venvs)), ours=True, limit=args.limit)

        report.part(title, list(ways), args.rounds, once)
    for key in ("seed_updates_per_s", "seed_updates_per_cpu_s", "seed_steps_per_s"):
        for title in parts:
            report.show(title, [key, "cpu_s_per_seed"], key)


if __name__ == "__main__":
    main()
