"""From a command line to the spec of a run: a recipe, its settings, a file of settings, a seed, a place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray_jobs.command import options
from ray_jobs.errors import UsageError
from ray_jobs.recipe.settings import Setting, fields, from_file, known, typed
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.run.folder import Run

WHERE = {s.name: s for s in fields(Where)}
COMMON = {
    "config": Setting("config", str, None, "YAML file of settings; what the command line says comes before it."),
    "seed": Setting("seed", int, 0, "Seed of weights, data order, noise and environments."),
    "out": Setting("out", str, None, "Run folder: a path, or any fsspec URI such as s3://bucket/run."),
    "quiet": Setting("quiet", bool, False, "Print nothing while it runs."),
    **WHERE,
}


@dataclass(frozen=True)
class Order:
    """A spec, whether to keep quiet, and the verb's own options."""

    spec: Spec
    quiet: bool
    rest: dict[str, Any]


def read(verb: str, argv: list[str], extra: Mapping[str, Setting], dotted: str = "") -> Order:
    """Parse RECIPE and its options.

    Raises:
        UsageError: an unknown recipe, option, type or file.
    """
    recipe = argv[0]
    if recipe.startswith("-"):
        raise UsageError(f"Name the recipe first: reprise {verb} RECIPE {recipe} ...")
    own = known(recipe)
    said = options.parse(recipe, argv[1:], own | COMMON | dict(extra), dotted=dotted)
    if said.words:
        raise UsageError(f"'{said.words[0]}' is no option: write --name value.")
    given = said.options
    filed = typed(f"{recipe} in {given['config']}", own, from_file(given["config"])) if given.get("config") else {}
    settings = filed | {k: v for k, v in given.items() if k in own}
    where = Where(**{k: v for k, v in given.items() if k in WHERE})
    if given.get("seed", 0) < 0:
        raise UsageError(f"--seed must be at least 0, not {given['seed']}.")
    spec = Spec(recipe, settings, given.get("seed", 0), where, given.get("out"))
    rest = {k: v for k, v in given.items() if k in extra or (dotted and k.startswith(dotted))}
    return Order(spec, given.get("quiet", False), rest)


def conclude(run: Run) -> None:
    """Print what a finished run reached, and where it is."""
    from ray_jobs.recipe.loading import recipe
    from ray_jobs.run.progress import brief

    result = run.result or {"metrics": {}, "seconds": 0}
    shown = "  ".join(f"{k} {brief(v)}" for k, v in result["metrics"].items() if not k.startswith("loss"))
    print(f"{run}: {brief(result['seconds'])} s  {shown}")
    claim = recipe(run.spec.recipe).claim
    if claim and claim.metric in result["metrics"]:
        verdict = "reached" if claim.holds(result["metrics"][claim.metric]) else "not reached"
        print(f"claim {claim}: {verdict} by this seed")
