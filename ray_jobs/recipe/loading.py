"""Find recipes by name: those of the families in `ray_jobs/recipes`, and a user's own by import path."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from types import FunctionType, ModuleType
from typing import Any

from ray_jobs.errors import UsageError, unknown
from ray_jobs.recipe.plan import Fit, Play, Variant


def names() -> list[str]:
    """Every recipe's short name, found by looking into `ray_jobs/recipes`, each followed by its variants'."""
    return [name for n in sorted(_paths()) for name in (n, *(f"{n}@{v}" for v in getattr(module(n), "variants", {})))]


def _paths() -> dict[str, str]:
    """The import path of every recipe's module, by its short name; each family is a package."""
    from ray_jobs import recipes

    families = [m.name for m in pkgutil.iter_modules(recipes.__path__) if m.ispkg]
    return {
        m.name: f"ray_jobs.recipes.{family}.{m.name}"
        for family in families
        for m in pkgutil.iter_modules([f"{root}/{family}" for root in recipes.__path__])
    }


def module(name: str) -> ModuleType:
    """The module of a recipe, by short name ('ddpm_digits'), import path ('mylab.recipes.mine') or as either's variant ('...@moons').

    Raises:
        UsageError: there is no such recipe; the sentence names the nearest.
    """
    base, _, which = name.partition("@")
    found = _imported(base)
    if not which:
        return found
    variants = getattr(found, "variants", {})
    if which not in variants:
        raise UsageError(unknown("recipe", name, [base, *(f"{base}@{v}" for v in variants)]))
    return _varied(found, name, variants[which])


def _varied(of: ModuleType, name: str, variant: Variant) -> ModuleType:
    """A module as `of`, but for what the variant says."""
    title, _, text = (of.__doc__ or "").partition("\n")
    made = ModuleType(name, f"{title.rstrip('.')}; {variant.data}.\n{text}")
    own = {"__doc__": made.__doc__, "__name__": name, "data": variant.data, "claim": variant.claim}
    vars(made).update(vars(of) | own | {"recipe": _with_defaults(of.recipe, variant.settings)})
    return made


def _with_defaults(f: FunctionType, defaults: Mapping[str, Any]) -> FunctionType:
    """The same function with other defaults of its keyword arguments."""
    made = FunctionType(f.__code__, f.__globals__, f.__name__, f.__defaults__, f.__closure__)
    functools.update_wrapper(made, f)
    del made.__wrapped__  # type: ignore[attr-defined]  # or its signature would be that of f
    made.__kwdefaults__ = (f.__kwdefaults__ or {}) | dict(defaults)
    return made


def _imported(name: str) -> ModuleType:
    """The module that a recipe is, without a variant."""
    path = name if "." in name else _paths().get(name, f"ray_jobs.recipes.{name}")
    try:
        found = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not (path == error.name or path.startswith(error.name + ".")):
            raise
        raise UsageError(unknown("recipe", name, names())) from None
    if not callable(getattr(found, "recipe", None)):
        raise UsageError(f"{name} is not a recipe: the module {path} has no function 'recipe'.")
    return found


def kind(name: str) -> type[Fit] | type[Play]:
    """What the recipe returns, by its annotation, without building it."""
    result = inspect.signature(module(name).recipe).return_annotation
    return {"Fit": Fit, "Play": Play}[result if isinstance(result, str) else result.__name__]
