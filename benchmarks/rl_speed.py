"""Updates and environment steps per second of A2C, DQN, SAC and TD3 against stable-baselines3, and of SAC against RLlib; one thread each.

The networks, batches, ratios of updates to steps and environments are the same (`peers/workloads.py`); on CartPole the
greedy return over 100 episodes is recorded with the rate, so that speed is not bought with learning.
RLlib's SAC is measured over fewer steps.
'Reprise, bf16' is Reprise with the option `--matmul bfloat16`, where the CPU has units for it; all others multiply in float32. Its rate
is not one at equal returns: TD3 on Pendulum learned worse so.

    python -m benchmarks.rl_speed --rounds 2
"""

from __future__ import annotations

from benchmarks.harness import Contender, Report, Row, arguments, interpreter, measure
from benchmarks.peers.workloads import WORK
from ray_jobs.rl.fast.matmul import has_bfloat16

CONTENDERS = {
    "Reprise": Contender("Reprise", "reprise", "speed.py"),
    "Reprise, bf16": Contender("Reprise, bf16", "reprise", "speed.py", ("--matmul", "bfloat16")),
    "SB3": Contender("SB3", "stable_baselines3", "speed.py"),
    "RLlib": Contender("RLlib", "rllib", "speed.py"),
}
COMPARED = {"sac": ["Reprise", "Reprise, bf16", "SB3", "RLlib"], "td3": ["Reprise", "Reprise, bf16", "SB3"]}
"""Who is measured, where it is not us and SB3 alone."""


def contenders(algorithm: str) -> list[str]:
    """The contenders of an algorithm; bfloat16 only where the CPU supports it."""
    names = COMPARED.get(algorithm, ["Reprise", "SB3"])
    return [name for name in names if name != "Reprise, bf16" or has_bfloat16()]


def main() -> None:
    """Measure, and print or record the result."""
    parser = arguments(__doc__ or "", rounds=2)
    parser.add_argument("--algorithms", nargs="*", choices=list(WORK), default=list(WORK))
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for one measurement (default %(default)s)")
    args = parser.parse_args()
    for name in {name for algorithm in args.algorithms for name in contenders(algorithm)}:
        interpreter(CONTENDERS[name].peer, args.venvs)
    report = Report("rl_speed", args.out)

    for algorithm in args.algorithms:

        def once(name: str, seed: int, algorithm: str = algorithm) -> Row:
            who = CONTENDERS[name]
            command = [*who.command(interpreter(who.peer, args.venvs)), algorithm, "--seed", str(seed)]
            return measure(command, ours=who.peer == "reprise", limit=args.limit)

        report.part(algorithm, contenders(algorithm), args.rounds, once)
    for algorithm in args.algorithms:
        report.show(algorithm, ["env_steps_per_s", "updates_per_s", "return"], "updates_per_s")


if __name__ == "__main__":
    main()
