"""Every claim on ten seeds that nothing was tuned on: whether it was luck.

    python -m benchmarks.claims                     # all recipes whose recorded seeds took at most 20 s each
    python -m benchmarks.claims --seconds 1e9       # all, for a night
    python -m benchmarks.claims nice_density2d      # these

It runs `reprise reproduce RECIPE --seeds 10 --first_seed 100`, which keeps the results in results/fresh and continues after a kill, and
lists the claims that a new seed does not keep with 95%. The exit code is 1 if there are such claims.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from ray_jobs.recipe.declare import Claim
from ray_jobs.recipe.loading import names, recipe
from ray_jobs.report.cards import on_fresh_seeds
from ray_jobs.reproduce.reproduce import reproduce
from ray_jobs.results import store
from ray_jobs.results.statistics import next_seed
from ray_jobs.results.store import Result

SEEDS, FIRST = 10, 100


def quick(seconds: float) -> list[str]:
    """The recipes with a claim whose median recorded seed took at most so many seconds."""
    recorded = store.load(store.folder())
    spent = {name: sorted(r.seconds)[len(r.seconds) // 2] for name, r in recorded.items() if r.seconds}
    return [name for name in names() if recipe(name).claim and spent.get(name, float("inf")) <= seconds]


def kept(claim: Claim, fresh: Result) -> bool:
    """Whether a new seed keeps the claim with 95%: by the bound of the fresh ones, and all of those keep it, too."""
    bound = next_seed(fresh.values, above=claim.at_least is not None)
    return not fresh.failures and bound is not None and all(map(claim.holds, [bound, *fresh.values]))


def lucky(found: Iterable[Result]) -> list[str]:
    """A line for each claim, as it is now, that a new seed does not keep."""
    claims = [(recipe(r.recipe).claim, r) for r in found]
    return [f"{r.recipe}: {on_fresh_seeds(r, claim)}" for claim, r in claims if claim and not kept(claim, r)]


def main() -> int:
    """Measure the claims that the command line names; 1 where a new seed does not keep one with 95%."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", help="recipes; by default all that are quick enough")
    parser.add_argument("--seconds", type=float, default=20.0, help="longest median time of a recorded seed")
    parser.add_argument("--jobs", type=int, help="processes at the same time")
    given = parser.parse_args()
    chosen = given.recipes or quick(given.seconds)
    for name in chosen:
        reproduce([name], seeds=SEEDS, first_seed=FIRST, jobs=given.jobs)
    root = store.folder()
    assert root is not None, "claims are checked in a checkout"
    fresh = store.load(root / store.FRESH)
    lines = lucky(fresh[name] for name in chosen if name in fresh)
    print("\n".join(lines) or "A new seed keeps every claim with 95%.")
    return int(bool(lines))


if __name__ == "__main__":
    raise SystemExit(main())
