"""IMPALA on CartPole-v1 against RLlib's IMPALA and APPO and sample-factory's APPO, with 1 and with 2 processes that play.

Each runner plays 16 environments, 16 steps in a fragment, and every fragment is learned from once. Ours is the recipe `impala_cartpole`
at a step size for these fragments, which sample-factory gets too; RLlib has that of its own example. The rate is from the first report
of progress to the last, after start-up; the mean return of the last training episodes is recorded with it, so that speed is not bought with
learning. Our shares of time are in the rows. Each process computes on one thread: a runner, the learner, and what else the peer has.

    python -m benchmarks.impala --rounds 2
"""

from __future__ import annotations

from benchmarks.harness import Contender, Report, Row, arguments, interpreter, measure

PEERS = {
    "Reprise": Contender("Reprise", "reprise", "impala.py"),
    "RLlib IMPALA": Contender("RLlib IMPALA", "rllib", "impala.py", ("--algorithm", "IMPALA")),
    "RLlib APPO": Contender("RLlib APPO", "rllib", "impala.py", ("--algorithm", "APPO")),
    "sample-factory APPO": Contender("sample-factory APPO", "sample_factory", "impala.py"),
}


def main() -> None:
    """Measure, and print or record the result."""
    parser = arguments(__doc__ or "", rounds=2)
    parser.add_argument("--runners", nargs="*", type=int, default=[1, 2], help="processes that play (default 1 2)")
    parser.add_argument("--steps", type=int, default=100_000, help="environment steps (default %(default)s)")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS)[1:], default=list(PEERS)[1:])
    parser.add_argument("--limit", type=float, default=180.0, help="seconds for one measurement (default %(default)s)")
    args = parser.parse_args()
    names = ["Reprise", *args.peers]
    for name in names:
        interpreter(PEERS[name].peer, args.venvs)
    report, titles = Report("impala", args.out), {n: f"{n} runner{'s' * (n > 1)}" for n in args.runners}
    for n, title in titles.items():

        def once(name: str, seed: int, n: int = n) -> Row:
            who = PEERS[name]
            numbers = ["--runners", str(n), "--steps", str(args.steps), "--seed", str(seed)]
            command = [*who.command(interpreter(who.peer, args.venvs)), *numbers]
            return measure(command, ours=who.peer == "reprise", limit=args.limit)

        report.part(title, names, args.rounds, once)
    for title in titles.values():
        report.show(title, ["env_steps_per_s", "train_return"], "env_steps_per_s")


if __name__ == "__main__":
    main()
