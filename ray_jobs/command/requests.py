"""From a command line to a request: a verb, its function's arguments and the options that were given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ray_jobs.command.options import (
    CommandLine,
    Form,
    Word,
    arguments,
    options_of,
    positional_types,
    read,
    words_of,
)
from ray_jobs.command.verbs import HELP, function_of, split
from ray_jobs.errors import UsageError, refuse_odd
from ray_jobs.recipe import loading, settings
from ray_jobs.recipe.settings import RecipeName, Setting, fields, from_file, known
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.recipe.trusted import own_recipe
from ray_jobs.run.folder import Run

MOVED = "moved"
"""The option of the verbs that read a run: settings that name data which lie elsewhere now."""
WHERE = {s.name: s for s in fields(Where)}
SPEC = {
    "config": Setting("config", str, None, "YAML file of settings; options of the command line replace its values."),
    "seed": Setting("seed", int, 0, "Seed of weights, data order, noise and environments."),
    "out": Setting("out", str, None, "Run folder: a path, or any fsspec URI such as s3://bucket/run."),
    "start": Setting(
        "start",
        tuple[str, ...],
        (),
        "NAME=RUN: a part of the model and the finished run whose averaged weights it takes.",
    ),
    **WHERE,
}
"""Options of every verb that takes a recipe and its settings, by name."""
FOR_A_SHELL = {"submit", "resubmit", "cluster"}
"""Verbs whose options may hold lines of a script."""


@dataclass(frozen=True)
class Request:
    """A command line that was read."""

    verb: str
    words: list[Any]
    """The positional arguments of the verb's function."""
    options: dict[str, Any]
    """The options of the function that were given, by name."""

    @property
    def spec(self) -> Spec:
        """The run that `train` or `tune` asks for; one without a recipe for other verbs."""
        return next((word for word in self.words if isinstance(word, Spec)), Spec(""))

    def run(self) -> Any:
        """Call the verb's function."""
        return function_of(self.verb)(*self.words, **self.options)


def parse(argv: Sequence[str]) -> Request:
    """Read a whole command line, without `reprise`.

    Raises:
        UsageError: the verb, a word, an option, a recipe or a file is wrong.
        SystemExit: the user asked for help, and it was printed.
    """
    refuse_odd(argv, lines=bool({*argv[:2]} & FOR_A_SHELL))
    verb, rest = split(argv)
    function = function_of(verb)
    if reads_itself(function):
        return Request(verb, [rest], {})
    form = form_of(verb, rest)
    words, given = read(form, rest)
    asked = arguments(form, words)
    own = options_of(function)
    if takes_settings(function):
        of_recipes = {name: value for name, value in given.items() if name not in own}
        given = {name: value for name, value in given.items() if name in own}
        if of_recipes:
            given["settings"] = {**(given.get("settings") or {}), **of_recipes}
    if MOVED in own:
        places = {name: value for name, value in given.items() if name not in own}
        given = {name: value for name, value in given.items() if name in own}
        if places:
            given[MOVED] = {**(given.get(MOVED) or {}), **places}
    if not takes_spec(function):
        return Request(verb, asked, given)
    spec = _spec(words[0] if words else "", given)
    chosen = [rest if type_ == CommandLine else spec for type_ in positional_types(function).values()]
    return Request(verb, chosen, {name: value for name, value in given.items() if name in own})


def check(request: Request) -> None:
    """Refuse a request that cannot be carried out, before it is sent anywhere.

    Raises:
        UsageError: one of its recipes or settings does not exist, or their combination cannot be.
    """
    if request.spec.recipe:
        settings.check(request.spec.recipe, request.spec.settings, request.spec.where)
    for word, value in zip(words_of(function_of(request.verb)), request.words, strict=False):
        for name in value if word.several else [value]:
            if word.type == RecipeName and isinstance(name, str):
                settings.check(name, request.options.get("settings") or {}) if word.several else loading.recipe(name)


def reads_itself(function: Callable[..., Any]) -> bool:
    """Whether a verb's function takes the command line as it is, because its options depend on what it holds."""
    return next(iter(positional_types(function).values()), None) == CommandLine


def takes_spec(function: Callable[..., Any]) -> bool:
    """Whether a verb takes a recipe and that recipe's settings."""
    return Spec in positional_types(function).values()


def takes_settings(function: Callable[..., Any]) -> bool:
    """Whether a verb takes several recipes, and settings that they share as its option `settings`."""
    return "settings" in options_of(function) and any(w.type == RecipeName and w.several for w in words_of(function))


def form_of(verb: str, argv: Sequence[str]) -> Form:
    """What the command line of a verb may hold; of `train` and `tune` this depends on the recipe, the first word.

    Raises:
        UsageError: the recipe does not exist, or is not named where it must be.
    """
    function = function_of(verb)
    words, own = words_of(function), options_of(function)
    about = (inspect.getdoc(function) or "").partition("\n\nArgs:")[0].partition("\n\nR")[0]  # Returns or Raises
    form = Form(f"reprise {verb}", _usage(verb, words, bool(own)), about, {"options": own}, words)
    if takes_settings(function) and argv and not argv[0].startswith("-"):
        return replace(form, groups={"options": own, f"settings of {argv[0]}": _settings_besides(own, argv[0])})
    if MOVED in own and argv and not argv[0].startswith("-"):
        return replace(form, groups={"options": own, f"data of {argv[0]}": _places(own, argv)})
    if not takes_spec(function):
        return form
    recipe, options = next(iter(argv), ""), {"options": SPEC | own}
    if not recipe:
        raise UsageError(f"It is used as: reprise {verb} RECIPE [options]. 'reprise list' shows the recipes.")
    if set(HELP) & set(argv) and recipe.startswith("-"):
        return replace(form, summary=f"{about}\n'reprise show RECIPE' shows its settings.", groups=options)
    if recipe.startswith("-"):
        if words[0].required or recipe[2:].partition("=")[0].replace("-", "_") not in own:
            raise UsageError(f"Name the recipe first: reprise {verb} RECIPE {recipe} ...")
        return form
    of_recipe = known(recipe)
    if taken := sorted(of_recipe.keys() & (SPEC | own).keys()):
        raise UsageError(
            f"{recipe} has a setting '{taken[0]}', which is an option of 'reprise {verb}': give it another name."
        )
    groups = {f"settings of {recipe}": of_recipe, **options}
    return replace(form, what=recipe, usage=f"reprise {verb} {recipe} [options]", groups=groups)


def _settings_besides(own: Mapping[str, Setting], recipe: str) -> dict[str, Setting]:
    """The settings of a recipe whose names are no options of the verb."""
    return {name: setting for name, setting in known(recipe).items() if name not in own}


def _places(own: Mapping[str, Setting], argv: Sequence[str]) -> dict[str, Setting]:
    """The settings of a run's recipe that name files and folders; none where the command line has no other option than the verb's."""
    names = {word[2:].partition("=")[0].partition(".")[0].replace("-", "_") for word in argv[1:] if word[:2] == "--"}
    if names <= own.keys():
        return {}
    run = Run.at(argv[0])
    run.pull(checkpoints=False)
    record = run.read("run.json")
    settings = known(own_recipe(record["recipe"], str(run))) if record else {}
    return {name: s for name, s in settings.items() if s.path and name not in own}


def _usage(verb: str, words: Sequence[Word], options: bool) -> str:
    return " ".join(["reprise", verb, *(str(word) for word in words), *(["[options]"] if options else [])])


def _spec(recipe: str, given: Mapping[str, Any]) -> Spec:
    """The run of a recipe with these options; those of a settings file come first.

    Raises:
        UsageError: the file cannot be read, or the seed is negative.
    """
    if not recipe:
        return Spec("")
    own, file, seed = known(recipe), given.get("config"), given.get("seed", 0)
    filed = from_file(recipe, own, file) if file else {}
    if seed < 0:
        raise UsageError(f"--seed must be at least 0, not {seed}.")
    where = Where(**{name: value for name, value in given.items() if name in WHERE})
    chosen = filed | {k: v for k, v in given.items() if k in own}
    return Spec(recipe, chosen, seed, where, given.get("out"), _starts(given.get("start", ())))


def _starts(pairs: Sequence[str]) -> dict[str, str]:
    """The part and the run of each NAME=RUN.

    Raises:
        UsageError: one is written otherwise.
    """
    for pair in pairs:
        if not all(pair.partition("=")):
            raise UsageError(f"--start takes NAME=RUN, such as --start teacher=runs/x, not {pair!r}.")
    return {name: run for name, _, run in (pair.partition("=") for pair in pairs)}
