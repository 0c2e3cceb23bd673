"""How fast batches of 128 come: our data modules against torch's DataLoader that collates item by item.

python -m benchmarks.loading --rounds 3
"""

from __future__ import annotations

import sys

from benchmarks.harness import Contender, Report, Row, arguments, measure

OURS, PEER = "reprise", "dataloader"
PARTS = {
    "43 numbers, in memory": {
        "table": (OURS, ("--data", "numbers")),
        "DataLoader": (PEER, ("--data", "numbers")),
        "DataLoader, 2 workers": (PEER, ("--data", "numbers", "--workers", "2")),
    },
    "32x32 images, in memory": {
        "table": (OURS, ("--data", "images")),
        "DataLoader": (PEER, ("--data", "images")),
        "DataLoader, 2 workers": (PEER, ("--data", "images", "--workers", "2")),
    },
    "32x32 PNG files in parquet": {
        "Images, in memory": (OURS, ("--data", "files", "--way", "in_memory")),
        "Images, by index": (OURS, ("--data", "files")),
        "Images, streamed": (OURS, ("--data", "files", "--way", "streaming")),
        "DataLoader": (PEER, ("--data", "files")),
    },
}


def main() -> None:
    """Measure, and print or record the result."""
    parser = arguments(__doc__ or "", rounds=5)
    parser.add_argument("--seconds", default="4", help="that each is measured for (default %(default)s)")
    args = parser.parse_args()
    report = Report("loading", args.out)
    for title, ways in PARTS.items():

        def once(name: str, _: int, ways: dict = ways) -> Row:
            peer, options = ways[name]
            who = Contender(name, peer, "loading.py", (*options, "--seconds", args.seconds))
            return measure(who.command(sys.executable), ours=True, limit=120)

        report.part(title, list(ways), args.rounds, once)
    for title in PARTS:
        report.show(title, ["batches_per_s", "examples_per_s"], "batches_per_s")


if __name__ == "__main__":
    main()
