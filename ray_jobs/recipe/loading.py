"""Find recipes by name: those of the families in `ray_jobs/recipes`, every system by its own name, and a user's own.

ppo_cartpole                a recipe of the project
maf_uci@gas                 its variant
mylab.recipes:mine          a user's, in a module that Python can import; ':mine' where the module has several
path/to/recipes.py:mine     a user's, in a file
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import functools
import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from ray_jobs.errors import UsageError, printable, shortened
from ray_jobs.recipe.declare import Headline, Recipe, Variant
from ray_jobs.recipe.plan import KINDS, Play, Study

FAMILIES = "ray_jobs.recipes"
"""The package of the project's recipes; each family is a package in it."""
RENAMED: dict[str, str] = {
    "maf_power": "maf_uci",
    "maf_gas": "maf_uci@gas",
    "maf_hepmass": "maf_uci@hepmass",
    "maf_miniboone": "maf_uci@miniboone",
    "maf_bsds300": "maf_uci@bsds300",
}
"""Recipes of earlier versions, and their names now."""


def names() -> list[str]:
    """Every recipe's name, in the order of the alphabet, each followed by its variants'."""
    found = declared()
    return [name for n in sorted(found) for name in (n, *(f"{n}@{v}" for v in found[n].variants))]


@functools.cache
def declared() -> Mapping[str, Recipe]:
    """The project's recipes by name, without variants; every family is a package of `ray_jobs/recipes`.

    Raises:
        ValueError: two recipes have one name.
    """
    return {r.name: r for r in _all_declared() if r.data}


@functools.cache
def _all_declared() -> tuple[Recipe, ...]:
    found: dict[str, Recipe] = {}
    for path in _modules():
        for name, recipe in _recipes_of(importlib.import_module(path)).items():
            if name in found:
                raise ValueError(f"the recipe {name} is declared twice, in {found[name].module} and in {path}")
            found[name] = recipe
    return tuple(found.values())


@functools.cache
def systems() -> Mapping[str, Recipe]:
    """Every system by its own name, to train on a user's data or environment: models that take `data`, and all algorithms."""
    return {r.name: r for r in _all_declared() if not r.data} | {r.name: r for r in _algorithms()}


def families() -> dict[str, list[str]]:
    """The names of each family's recipes, without variants."""
    found: dict[str, list[str]] = {}
    for name, recipe in sorted(declared().items(), key=lambda item: (item[1].family, item[0])):
        found.setdefault(recipe.family, []).append(name)
    return found


def recipe(name: str) -> Recipe:
    """The recipe of this name: see the top of this file.

    Raises:
        UsageError: there is none; the sentence names the nearest.
    """
    base, _, which = name.partition("@")
    found = _base(base)
    if not which:
        return replace(found, name=name)
    if which not in found.variants:
        raise UsageError(_no_recipe(name, [base, *(f"{base}@{v}" for v in found.variants)]))
    return replace(_varied(found, found.variants[which]), name=name)


def kind(of: Recipe) -> Any:
    """The class of the recipe's plan, found without building it."""
    if not callable(of.plan):
        return type(of.plan)
    result = inspect.signature(of.plan).return_annotation
    return {k.__name__: k for k in KINDS}[result if isinstance(result, str) else result.__name__]


def engine(of: Recipe) -> ModuleType:
    """The module that trains, evaluates and samples plans of the recipe's kind, see `plan.Plan`; it may import torch."""
    return importlib.import_module(kind(of).engine)


def family_source(plan: Play | Study, path: str) -> tuple[str, Path, str]:
    """Where the class of 'module:Class' is: import path of the module, its file, name of the class.

    A module without a dot is one of the kind's own family, in any of its folders.

    Raises:
        UsageError: there is no such module.
    """
    module, _, name = path.partition(":")
    if "." not in module:
        for root in _folders(plan.family):
            for file in sorted(Path(root).rglob(f"{module}.py")):
                inner = ".".join(file.relative_to(root).with_suffix("").parts)
                return f"{plan.family}.{inner}", file, name
    try:
        spec = importlib.util.find_spec(module)
    except ImportError:
        spec = None
    if spec is None or spec.origin is None:
        raise UsageError(f"There is no module {module} with the class {name}: write 'package.module:Class'.")
    return module, Path(spec.origin), name


def _folders(package: str) -> list[str]:
    """The folders of a package."""
    return list(importlib.import_module(package).__path__)


def _modules() -> list[str]:
    """Import paths of all modules in the families."""
    folders = sorted(
        (m.name, f"{root}/{m.name}") for root in _folders(FAMILIES) for m in pkgutil.iter_modules([root]) if m.ispkg
    )
    return [f"{FAMILIES}.{family}.{m.name}" for family, at in folders for m in pkgutil.iter_modules([at])]


def _algorithms() -> list[Recipe]:
    """A recipe for each algorithm of reinforcement learning, by the name of its file; the environment is the user's to give."""
    return [
        _algorithm(file)
        for root in _folders(Play.family)
        for file in sorted(Path(root).rglob("*.py"))
        if file.stem != "__init__"
    ]


def _algorithm(file: Path) -> Recipe:
    tree = ast.parse(file.read_text())
    text = ast.get_docstring(tree) or ""
    classes = (n for n in tree.body if isinstance(n, ast.ClassDef))
    cls = next(c for c in classes if any(isinstance(m, ast.FunctionDef) and m.name == "update" for m in c.body))
    source = re.search(r"^Source: (.*?)(?=\n\w+:|\Z)", text, re.S | re.M)
    return Recipe(
        text.partition("\n")[0],
        Play(f"{file.stem}:{cls.name}", steps=100_000),
        system=cls.name,
        headline=Headline(" ".join(source[1].split()) if source else ""),
        data="",
        name=file.stem,
        module=f"{Play.family}.{file.parent.name}.{file.stem}",
    )


def _recipes_of(module: ModuleType) -> dict[str, Recipe]:
    return {
        name: replace(value, name=name, module=module.__name__)
        for name, value in vars(module).items()
        if isinstance(value, Recipe)
    }


def _base(name: str) -> Recipe:
    """The recipe of a name without a variant."""
    if name in RENAMED:
        raise UsageError(f"The recipe {name} is now {RENAMED[name]}.")
    if not ("." in name or ":" in name or "/" in name):
        found = declared().get(name) or systems().get(name)
        if found is None:
            raise UsageError(_no_recipe(name, [*names(), *systems()]))
        return found
    path, _, which = name.partition(":")
    module = _of_file(Path(path)) if path.endswith(".py") else _imported(path)
    recipes = _recipes_of(module)
    if which in recipes:
        return recipes[which]
    if not which and len(recipes) == 1:
        return next(iter(recipes.values()))
    if not recipes and callable(getattr(module, "recipe", None)):
        raise UsageError(
            f"{shortened(path)} declares its recipe as earlier versions did, by a function named 'recipe': decorate the function by "
            "@fit(system=..., headline=..., data=...), or write the agent's recipe as data, Recipe(title, Play(...)); see CONTRIBUTING.md."
        )
    listed = ", ".join(f"{path}:{n}" for n in recipes) or "none"
    raise UsageError(f"{shortened(name)} does not name one recipe: the module {shortened(path)} declares {listed}.")


def _imported(path: str) -> ModuleType:
    if not all(part.isidentifier() for part in path.split(".")):
        raise UsageError(_no_recipe(path, names()))
    try:
        with _errors_as_sentences(path):
            return importlib.import_module(path)
    except ModuleNotFoundError:
        raise UsageError(_not_found(path)) from None


def _not_found(path: str) -> str:
    """One sentence: Python finds no such module, and how a recipe of the current folder is named."""
    file = Path(*path.split(".")).with_suffix(".py")
    there = f"its file is here: write {file}" if _is_file(file) else "write its file, such as lab/mine.py"
    return f"{shortened(path)} cannot be imported: Python's path has no such module; {there}, or set PYTHONPATH=. for packages here."


def _is_file(file: Path) -> bool:
    """Whether there is such a file; there is none with a name that no file can have."""
    try:
        return file.is_file()
    except (OSError, ValueError):  # a name that is too long, or has a null character
        return False


@contextlib.contextmanager
def _errors_as_sentences(path: str) -> Iterator[None]:
    """Turn an error in a user's module into one sentence with file and line; that the module itself is not found stays an error."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and (path == missing or path.startswith(missing + ".")):
            raise
        frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(("<", __file__))]
        file, line = (frames[-1].filename, frames[-1].lineno) if frames else ("", 0)
        if isinstance(error, SyntaxError):
            file, line = error.filename or "", error.lineno
        where = f" ({file}, line {line})" if line else ""
        raise UsageError(
            f"{printable(path)} cannot be imported: {type(error).__name__}: {' '.join(str(error).split())}{where}."
        ) from error


def _of_file(file: Path) -> ModuleType:
    """The module in a file. Where the file's folder is a package, it is imported as part of it, so that relative imports work.

    Raises:
        UsageError: there is no such file.
    """
    if not _is_file(file):
        raise UsageError(f"There is no file {shortened(str(file))} with a recipe.")
    file = file.resolve()
    root, parts = file.parent, [file.stem]
    while (root / "__init__.py").exists():
        root, parts = root.parent, [root.name, *parts]
    if str(root) not in sys.path:  # a lone file's folder comes last: its neighbours replace no module of Python or ours
        sys.path.insert(0 if len(parts) > 1 else len(sys.path), str(root))
    with _errors_as_sentences(str(file)):
        return _loaded(file, parts)


def _loaded(file: Path, parts: list[str]) -> ModuleType:
    """The module of a file, whose root is on the path: by its name in a package, else alone."""
    if len(parts) > 1:
        return importlib.import_module(".".join(parts))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(file.stem, module)
    spec.loader.exec_module(module)
    return module


def _varied(of: Recipe, variant: Variant) -> Recipe:
    """The recipe with what the variant changes."""
    return replace(
        of,
        title=f"{of.title.rstrip('.')}; {variant.data}.",
        data=variant.data,
        claim=variant.claim,
        headline=variant.headline or of.headline,
        defaults={**of.defaults, **variant.settings},
        variants={},
    )


def _no_recipe(name: str, allowed: list[str]) -> str:
    """One sentence: there is no such recipe, the nearest three, and where to look."""
    near = difflib.get_close_matches(name, allowed, n=3, cutoff=0.5)
    hint = f" Did you mean {', '.join(repr(n) for n in near)}?" if near else ""
    shown = shortened(name)
    return (
        f"There is no recipe '{shown}'.{hint} 'reprise list' shows the families, 'reprise list FAMILY' their recipes."
    )
