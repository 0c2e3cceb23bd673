"""The command line's options: names and types come from a function's signature, a recipe or a dataclass; help from docstrings."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray_jobs.errors import UsageError
from ray_jobs.recipe.settings import Setting, documented, typed

SHORT = {"-f": "--follow", "-q": "--quiet", "-o": "--out", "-h": "--help"}


@dataclass(frozen=True)
class Parsed:
    """What a command line said: words, and those options that were given, typed."""

    words: list[str]
    options: dict[str, Any]


class HelpWanted(Exception):
    """The user asked for help, not for work."""


def of(function: Callable[..., Any]) -> dict[str, Setting]:
    """The options of a verb: its function's keyword-only arguments."""
    told, types = documented(function), typing.get_type_hints(function)
    keywords = [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return {p.name: Setting(p.name, types[p.name], p.default, told.get(p.name, "")) for p in keywords}


def parse(
    what: str, argv: Sequence[str], known: Mapping[str, Setting], *, dotted: str = "", rest: bool = False
) -> Parsed:
    """Split `argv` into words and options, and type the options.

    Args:
        what: whose options they are, for the sentence about a wrong one.
        dotted: a prefix whose options ('--space.lr') are taken as they are, under their whole name.
        rest: the first word ends the options: it and all behind it are words.

    Raises:
        UsageError: an unknown option, a missing value or one of a wrong type.
        HelpWanted: --help is among them.
    """
    words: list[str] = []
    given: dict[str, Any] = {}  # an option of several values is given once for each, and emptied by ''
    free: dict[str, str] = {}
    tokens = list(argv)
    while tokens:
        token = SHORT.get(tokens[0], tokens[0])
        if not token.startswith("--"):
            if rest:
                words += tokens
                break
            words.append(tokens.pop(0))
            continue
        tokens.pop(0)
        name, equals, value = token[2:].partition("=")
        name = name.replace("-", "_")
        if name == "help":
            raise HelpWanted
        flag = name in known and known[name].type is bool
        if not equals:
            value = _value(name, tokens, flag)
        if name in known and known[name].type == tuple[str, ...]:
            given[name] = [*given.get(name, ()), value] if value else []
        else:
            (free if dotted and name.startswith(dotted) else given)[name] = value
    return Parsed(words, typed(what, known, given) | free)


def _value(name: str, tokens: list[str], flag: bool) -> str:
    if flag and (not tokens or tokens[0].lower() not in ("true", "false")):
        return "true"
    if not tokens or (tokens[0].startswith("--") and not tokens[0][2:3].isdigit()):
        raise UsageError(f"--{name} needs a value.")
    return tokens.pop(0)


def usage(command: str, summary: str, groups: Mapping[str, Mapping[str, Setting]]) -> None:
    """Print how a command is used: each option with its type, default and meaning."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"[bold]usage:[/] {command}\n\n{summary}".replace("[option", "\\[option"))
    for title, options in groups.items():
        table = Table(
            title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), show_header=False
        )
        for s in options.values():
            default = "" if s.default in (None, "", (), inspect.Parameter.empty) else f"[{s.default}]"
            table.add_row(
                f"  --{s.name}", f"[cyan]{s.typename}[/]", s.help + (f" [dim]\\{default}[/]" if default else "")
            )
        if options:
            console.print()
            console.print(table)
