"""What every kind of plan must do, found by itself: `ray_jobs.recipe.plan.KINDS`. A new kind needs its smallest recipe in `SMALL`."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ray_jobs.errors import UsageError
from ray_jobs.recipe.loading import engine, kind, recipe
from ray_jobs.recipe.plan import KINDS, Fit, Layout, Plan
from ray_jobs.recipe.settings import build, check, known
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.reproduce import seeds_together
from ray_jobs.run.folder import Run
from ray_jobs.run.progress import silent
from ray_jobs.train.drawing import AS_TRAINED
from ray_jobs.train.launch import Stopped, launch, resume, run_to_end
from tests.ray_jobs.command import equal, learned, lines, newest

ROOT = Path(__file__).parents[2]


class Small(NamedTuple):
    """A real recipe of a kind, as small as it trains."""

    recipe: str
    settings: dict[str, Any]
    uses: set[str]
    """The fields of `Where`, of those that count processes, that the kind uses."""
    samples: bool
    """Whether there is something to sample."""


SMALL = {
    "Fit": Small(
        "nice_density2d",
        {"steps": 40, "batch": 32, "log_every": 5, "save_every": 15},
        {"workers", "min_workers"},
        samples=True,
    ),
    "Play": Small(
        "a2c_cartpole",
        {"steps": 4000, "envs": 4, "eval_episodes": 2, "log_every": 400, "save_every": 1500},
        {"runners", "learners"},
        samples=True,
    ),
    "Study": Small("dp_frozenlake", {"steps": 60, "log_every": 5, "save_every": 25}, {"workers"}, samples=False),
}
PROCESSES = {
    "workers": Where(workers=2),
    "runners": Where(runners=2),
    "learners": Where(learners=2),
    "min_workers": Where(workers=2, min_workers=1),
}
"""A place in which each field counts; min_workers cannot be without workers."""
ENGINE = {
    "train": ["run", "spec", "report", "should_stop"],
    "evaluate": ["run", "ema"],
    "sample": ["run", "n", "seed", "name", "how"],
    "loaded": ["run"],
    "model": ["run"],
    "weights": ["plan", "seed"],
    "fixed": ["plan"],
    "check_together": ["plan"],
}
"""The functions of an engine, and their parameters."""


def small(kind: type) -> Small:
    if kind.__name__ not in SMALL:
        pytest.fail(f"{kind.__name__} is a kind of plan, and this suite has no small recipe of it: add one to SMALL.")
    return SMALL[kind.__name__]


def spec(kind: type, out: Path) -> Spec:
    return Spec(small(kind).recipe, small(kind).settings, 2, Where(address="local"), str(out))


def in_one_sentence(error: pytest.ExceptionInfo[UsageError]) -> bool:
    text = str(error.value)
    return text.endswith((".", "'")) and "\n" not in text and len(text) < 300


every = pytest.mark.parametrize("which", KINDS, ids=lambda k: k.__name__)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A whole training of each kind."""
    made: dict[type, Run] = {}

    def of(kind: type) -> Run:
        if kind not in made:
            made[kind] = launch(spec(kind, tmp_path_factory.mktemp(kind.__name__) / "run"))
        return made[kind]

    return of


@every
def test_it_has_the_protocol(which):
    assert which.engine.startswith("ray_jobs.train.")
    for name in ("progress", "steps", "save_every", "log_every"):
        assert name in Plan.__annotations__ and name in {**vars(which), **which.__dataclass_fields__}, name
    assert isinstance(which.layout(Where()), Layout)
    assert which.__doc__


@every
def test_its_engine_has_every_function(which):
    module = importlib.import_module(which.engine)
    for name, wanted in ENGINE.items():
        assert list(inspect.signature(getattr(module, name)).parameters) == wanted, name
        assert getattr(module, name).__doc__


@every
def test_the_small_recipe_is_of_the_kind(which):
    found = recipe(small(which).recipe)
    assert kind(found) is which
    assert engine(found).__name__ == which.engine
    assert {"steps", "save_every", "log_every"} <= set(known(small(which).recipe))


@every
@pytest.mark.parametrize("field", PROCESSES)
def test_processes_that_it_does_not_use_are_refused(which, field):
    name, settings, uses, _ = small(which)
    where = PROCESSES[field]
    if field in uses:
        check(name, settings, where)
        return
    if field == "min_workers" and "workers" in uses:
        check(name, settings, replace(where, min_workers=0))
    with pytest.raises(UsageError) as error:
        check(name, settings, where)
    assert in_one_sentence(error)
    assert f"--{field}" in str(error.value)
    assert name in str(error.value)


@every
def test_it_trains_and_records_its_kind_and_steps(which, trained):
    run = trained(which)
    record, status = (json.loads((run.path / f).read_text()) for f in ("run.json", "status.json"))
    assert record["kind"] == which.__name__
    assert record["settings"] == small(which).settings
    assert status["state"] == "finished"
    assert status["step"] == status["steps"] >= small(which).settings["steps"]
    assert run.result["step"] == status["step"] == lines(run.path)[-1]["step"]
    assert recipe(small(which).recipe).claim.metric in run.result["metrics"]
    assert (run.path / "curve.png").is_file()


@every
def test_stopped_half_way_it_resumes_to_the_same_bits(which, trained, tmp_path):
    wanted, half = spec(which, tmp_path / "run"), small(which).settings["steps"] // 2
    run = Run.create(wanted, kind=which.__name__)
    with pytest.raises(Stopped):
        run_to_end(run, wanted, silent, lambda: any(line["step"] >= half for line in lines(run.path)))
    status = json.loads((run.path / "status.json").read_text())
    assert status["state"] == "stopped"
    assert half <= status["step"] < status["steps"] == small(which).settings["steps"]
    again = resume(str(run))
    assert equal(learned(newest(again.path)), learned(newest(trained(which).path)))
    mine, theirs = ({line["step"]: line for line in lines(run.path)} for run in (again, trained(which)))
    both = mine.keys() & theirs.keys()  # an agent also logs where it stops
    assert max(both) == max(theirs)
    assert all(mine[step] == theirs[step] for step in both)
    metric = recipe(small(which).recipe).claim.metric
    assert again.result["metrics"][metric] == trained(which).result["metrics"][metric]


@every
def test_it_is_evaluated(which, trained):
    run = trained(which)
    metrics, step = importlib.import_module(which.engine).evaluate(run)
    metric = recipe(small(which).recipe).claim.metric
    assert step == run.result["step"]
    assert metrics[metric] == pytest.approx(run.result["metrics"][metric])


@every
def test_it_is_sampled_or_says_in_one_sentence_why_not(which, trained):
    module = importlib.import_module(which.engine)
    if small(which).samples:
        assert module.sample(trained(which), n=4, seed=0, name="drawn", how=AS_TRAINED).is_file()
        return
    with pytest.raises(UsageError) as error:
        module.sample(trained(which), n=4, seed=0, name="drawn", how=AS_TRAINED)
    assert in_one_sentence(error)


@every
def test_its_model_can_be_exported_or_one_sentence_says_that_there_is_none(which, trained):
    module = importlib.import_module(which.engine)
    if which is Fit:
        assert module.model(trained(which)).step == trained(which).result["step"]
        return
    with pytest.raises(UsageError) as error:
        module.model(trained(which))
    assert in_one_sentence(error)


@every
def test_seeds_train_together_or_are_refused_in_one_sentence(which):
    name, settings, _, _ = small(which)
    try:
        seeds_together.refuse(name, settings, Where())
        refused = ""
    except UsageError as error:
        refused = str(error)
    assert not refused or ("--together" in refused and "\n" not in refused)


@every
def test_what_is_fixed_and_the_weights_can_be_known_before_it_trains(which):
    plan = build(small(which).recipe, small(which).settings)
    module = importlib.import_module(which.engine)
    assert module.fixed(plan)["steps"] == small(which).settings["steps"]
    weights, groups = module.weights(plan, 0)
    assert weights
    assert all("lr" in group for group in groups)


# ---- nobody asks which kind a plan is


NAMES = {kind.__name__ for kind in KINDS}
ENGINES = {"models.py", "agents.py", "studies.py", "fit.py"}
"""Files of `ray_jobs/train` that are the engine of one kind."""


def asks(tree: ast.AST):
    """The nodes that ask for a kind: isinstance and issubclass, comparisons with its class or its name, and patterns."""
    for node in ast.walk(tree):
        asked: list[ast.AST] = []
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass"):
            asked = node.args[1:]
        elif isinstance(node, ast.Compare):
            asked = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchClass):
            asked = [node.cls]
        for part in (p for a in asked for p in ast.walk(a)):
            if {getattr(part, "id", ""), getattr(part, "attr", ""), getattr(part, "value", "")} & NAMES:
                yield node


def test_asking_is_found():
    for line in ("isinstance(x, Fit)", "kind is plan.Play", "x == 'Study'", "issubclass(x, (int, Fit))"):
        assert len(list(asks(ast.parse(line)))) == 1, line


def test_nobody_outside_the_recipes_and_the_engines_asks_which_kind_a_plan_is():
    rooms = [f for f in (ROOT / "ray_jobs").rglob("*.py") if f.relative_to(ROOT / "ray_jobs").parts[0] != "recipe"]
    others = [f for f in rooms if not (f.parent.name == "train" and f.name in ENGINES)]
    assert len(others) > 100
    found = [f"{f.relative_to(ROOT)}:{node.lineno}" for f in others for node in asks(ast.parse(f.read_text()))]
    assert not found
