"""PPO on CartPole-v1 against stable-baselines3, CleanRL and RLlib, one thread each, alternating.

speed  Environment steps per second over 100,000 steps at the settings of rl-baselines3-zoo (8 environments), with the
       greedy return over 100 episodes afterwards, so that speed is not bought with learning.
race   Seconds from the launch of the process, imports included, until the mean return of the last 100 training
       episodes is 475: our recipe, through the whole `reprise train` (run folder, checkpoints,
       TensorBoard) and as a library; the peers at the zoo's settings, and with 64 environments at settings that suit
       them (`WIDE`: the fastest of those tried by hand, common to all three).

    python -m benchmarks.ppo_cartpole --rounds 5 --cleanrl ~/src/cleanrl
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import Contender, Report, Row, arguments, column, console, interpreter, measure

PEERS = {"SB3": "stable_baselines3", "CleanRL": "cleanrl", "RLlib": "rllib"}
WIDE = tuple(shlex.split("--envs 64 --horizon 32 --minibatch 512 --epochs 10 --lr 2e-3 --anneal 0 --steps 500000"))
UNTIL = ("--until", "475")
SOLVED = 475.0


def solved(row: Row) -> bool:
    """Whether the greedy policy scored what Gymnasium calls solved."""
    return any(score >= SOLVED for score in column([row], "return"))


def speed_contenders(peers: Sequence[str]) -> list[Contender]:
    """The contenders at equal settings."""
    return [Contender("Reprise", "reprise"), *(Contender(name, PEERS[name]) for name in peers)]


def race_contenders(peers: Sequence[str]) -> list[Contender]:
    """The contenders of the race to a return."""
    narrow = [Contender(f"{name}, 8 envs", PEERS[name], args=UNTIL) for name in peers]
    wide = [Contender(f"{name}, 64 envs", PEERS[name], args=(*UNTIL, *WIDE)) for name in peers]
    whole = Contender("reprise train", "reprise", "train.py")
    return [whole, Contender("Reprise, as a library", "reprise", args=UNTIL), *narrow, *wide]


def part(report: Report, title: str, contenders: Sequence[Contender], rounds: int, args: argparse.Namespace) -> None:
    """Measure `rounds` seeds of every contender, alternating."""
    by_name = {c.name: c for c in contenders}

    def once(name: str, seed: int) -> Row:
        who = by_name[name]
        command = who.command(interpreter(who.peer, args.venvs))
        if who.peer == "cleanrl":
            command += ["--source", str(args.cleanrl)]
        return measure([*command, "--seed", str(seed)], ours=who.peer == "reprise", limit=args.limit)

    report.part(title, list(by_name), rounds, once)


def options() -> argparse.Namespace:
    """The command line's options."""
    parser = arguments(__doc__ or "", rounds=5)
    parser.add_argument(
        "--seeds", type=int, default=10, help="seeds of the race (default %(default)s; 0 leaves it out)"
    )
    parser.add_argument("--cleanrl", type=Path, help="a checked-out CleanRL; without it CleanRL is left out")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--limit", type=float, default=240.0, help="seconds for one measurement (default %(default)s)")
    args = parser.parse_args()
    if args.cleanrl:
        args.cleanrl = args.cleanrl.expanduser().resolve()
        if not (args.cleanrl / "cleanrl" / "ppo.py").exists():
            parser.error(f"--cleanrl {args.cleanrl} holds no cleanrl/ppo.py: give the folder of a CleanRL checkout.")
    elif "CleanRL" in args.peers:
        console.print(
            "[yellow]CleanRL is left out: it is on no registry in a form that runs; give --cleanrl DIR[/yellow]"
        )
        args.peers.remove("CleanRL")
    return args


def main() -> None:
    """Measure, and print or record the result."""
    args = options()
    for name in args.peers:
        interpreter(PEERS[name], args.venvs)
    report = Report("ppo_cartpole", args.out)
    if args.rounds:
        part(report, "speed", speed_contenders(args.peers), args.rounds, args)
    if args.seeds:
        part(report, "race", race_contenders(args.peers), args.seeds, args)
    if args.rounds:
        report.show("speed", ["env_steps_per_s", "return"], "env_steps_per_s", solved)
    if args.seeds:
        report.show("race", ["seconds_to_475", "startup_s", "steps"], "seconds_to_475")


if __name__ == "__main__":
    main()
