"""Start-up times: `reprise --help` against importing torch, and the first step of two workers against bare Lightning.

python -m benchmarks.startup
"""

from __future__ import annotations

import sys

from benchmarks.harness import Contender, Report, Row, arguments, measure, timed

CONSOLE = "import sys; from ray_jobs.cli import main; sys.exit(main())"
WORDS = {
    "reprise --help": [sys.executable, "-c", CONSOLE, "--help"],
    "import torch": [sys.executable, "-c", "import torch"],
    "python alone": [sys.executable, "-c", ""],
}
"""The console script is these two lines and nothing more, so this need not be installed to be measured."""
TRAININGS = {
    "reprise train, 2 workers": Contender("reprise", "reprise", "first_step.py"),
    "bare Lightning DDP": Contender("bare", "lightning", "bare_ddp.py"),
}


def answer(name: str, _: int) -> Row:
    """Seconds of a command that only prints or imports."""
    return timed(WORDS[name], ours=True, limit=60)


def first_step(name: str, _: int) -> Row:
    """Seconds from launch to the first step of a training."""
    return measure(TRAININGS[name].command(sys.executable), ours=True, limit=120)


def main() -> None:
    """Measure, and print or record the result."""
    args = arguments(__doc__ or "", rounds=7).parse_args()
    report = Report("startup", args.out)
    report.part("answer", list(WORDS), args.rounds, answer)
    report.part("first step", list(TRAININGS), args.rounds, first_step)
    report.show("answer", ["wall_s"], "wall_s")
    report.show("first step", ["first_step_s"], "first_step_s")


if __name__ == "__main__":
    main()
