"""Steps per second of `reprise train` against the plainest torch loop with the same model, batches and optimiser, one thread each.

The models are small, so the loop takes a large share of the time.

python -m benchmarks.loop --rounds 5
"""

from __future__ import annotations

import sys

from benchmarks.harness import Contender, Report, Row, arguments, measure

STEPS = {"ddpm_mixture2d": 2000, "realnvp_density2d": 1200, "vae_digits": 2000}
PEERS = {"reprise train": "reprise", "raw loop": "raw"}


def main() -> None:
    """Measure, and print or record the result."""
    parser = arguments(__doc__ or "", rounds=5)
    parser.add_argument("--recipes", nargs="*", choices=list(STEPS), default=list(STEPS))
    args = parser.parse_args()
    report = Report("loop", args.out)
    for recipe in args.recipes:

        def once(name: str, _: int, recipe: str = recipe) -> Row:
            who = Contender(name, PEERS[name], "loop.py", (recipe, "--steps", str(STEPS[recipe])))
            return measure(who.command(sys.executable), ours=True, limit=300)

        report.part(recipe, list(PEERS), args.rounds, once)
    for recipe in args.recipes:
        report.show(recipe, ["steps_per_s", "loss"], "steps_per_s")


if __name__ == "__main__":
    main()
