"""Images per second of `reprise train` with one and with two workers, one thread each, at the same global batch.

python -m benchmarks.ddp
"""

from __future__ import annotations

import sys

from benchmarks.harness import Contender, Report, Row, arguments, measure

LOADS = {
    "ddpm_digits, 1x8x8": ("ddpm_digits", "--batch", "128", "--lines", "12"),
    "2.5 M parameters, 3x32x32": ("benchmarks.peers.reprise.images32", "--batch", "32", "--lines", "10"),
}


def contenders(load: tuple[str, ...]) -> dict[str, Contender]:
    """Two workers first: the table shows how many times the others' pace theirs is."""
    return {
        f"{n} worker{'s' * (n > 1)}": Contender("", "reprise", "throughput.py", (*load, "--workers", str(n)))
        for n in (2, 1)
    }


def main() -> None:
    """Measure, and print or record the result."""
    args = arguments(__doc__ or "", rounds=5).parse_args()
    report = Report("ddp", args.out)
    for title, load in LOADS.items():
        who = contenders(load)

        def once(name: str, _: int, who: dict[str, Contender] = who) -> Row:
            return measure(who[name].command(sys.executable), ours=True, limit=300)

        report.part(title, list(who), args.rounds, once)
    for title in LOADS:
        report.show(title, ["images_per_s", "loss"], "images_per_s")


if __name__ == "__main__":
    main()
