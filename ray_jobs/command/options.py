"""The form of a command line: words and options with their types, read by one jsonargparse parser; wrong input is one sentence."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ray_jobs.errors import UsageError, unknown
from ray_jobs.recipe import values
from ray_jobs.recipe.settings import RecipeName, Setting, documented, parser, shown, typed
from ray_jobs.recipe.spec import Spec
from ray_jobs.terminal import console

SHORT = {"-f": "--follow", "-q": "--quiet", "-o": "--out", "-h": "--help"}
CommandLine = typing.Annotated[list[str], "command line"]
"""The type of a parameter that receives everything behind the verb, as it was given."""


@dataclass(frozen=True)
class Word:
    """A positional parameter of a verb."""

    name: str
    type: Any = str
    """str, a Literal, or one of the annotated types of `recipe.settings`; of each, where there are several."""
    required: bool = True
    several: bool = False
    """Whether it takes all words that are left."""

    def __str__(self) -> str:
        shown = self.name.upper().removesuffix("S") + "..." if self.several else self.name.upper()
        return shown if self.required else f"[{shown}]"


@dataclass(frozen=True)
class Form:
    """What a command line may hold."""

    what: str
    """Whose options they are, for the sentence about a wrong one: a verb or a recipe."""
    usage: str
    """The command with its words, as 'reprise sample RUN [options]'."""
    summary: str = ""
    """What the verb does."""
    groups: Mapping[str, Mapping[str, Setting]] = field(default_factory=dict)
    """Options by name, in groups with a title."""
    words: tuple[Word, ...] = ()

    @property
    def options(self) -> dict[str, Setting]:
        """The options of all groups; a later group's replace an earlier one's of the same name."""
        return {name: setting for group in self.groups.values() for name, setting in group.items()}


def options_of(function: Callable[..., Any]) -> dict[str, Setting]:
    """The options of a verb: its function's keyword-only parameters, but for functions, which a command line cannot hold."""
    text, types = documented(function), typing.get_type_hints(function)
    return {
        p.name: Setting(p.name, types[p.name], p.default, text.get(p.name, ""))
        for p in inspect.signature(function).parameters.values()
        if p.kind is p.KEYWORD_ONLY and typing.get_origin(types[p.name]) is not Callable
    }


def positional_types(function: Callable[..., Any]) -> dict[str, Any]:
    """The types of a function's positional parameters, by name."""
    types = typing.get_type_hints(function, include_extras=True)
    found = inspect.signature(function).parameters.values()
    return {p.name: types[p.name] for p in found if p.kind is p.POSITIONAL_OR_KEYWORD}


def words_of(function: Callable[..., Any]) -> tuple[Word, ...]:
    """The words of a verb: its function's positional parameters. A `Spec` is a RECIPE; a `CommandLine` is no word."""
    parameters, words = inspect.signature(function).parameters, []
    for name, type_ in positional_types(function).items():
        required = parameters[name].default is inspect.Parameter.empty
        if type_ is Spec:
            words.append(Word("recipe", RecipeName, required))
        elif type_ != CommandLine:
            several = typing.get_origin(type_) in (list, Sequence)
            words.append(Word(name, typing.get_args(type_)[0] if several else type_, required, several))
    return tuple(words)


def read(form: Form, argv: Sequence[str], *, rest: bool = False) -> tuple[list[str], dict[str, Any]]:
    """Read a command line.

    Args:
        form: what it may hold.
        argv: everything behind the verb.
        rest: the first word ends the options: it and all behind it are words.

    Returns:
        the words, and the options that were given, typed.

    Raises:
        UsageError: an unknown option, a missing value or one of a wrong type.
        SystemExit: the user asked for help, and it was printed.
    """
    words, given = spelled(argv, form.options, rest=rest)
    if "--help" in given:
        usage(form)
        raise SystemExit(0)
    return words, _parsed(form, given) if given else {}


def spelled(argv: Sequence[str], options: Mapping[str, Setting], *, rest: bool = False) -> tuple[list[str], list[str]]:
    """The words, and each option as argparse understands it without doubt: '--name=value', with underscores.

    argparse by itself takes a value such as -1e-3 for an option, and a word behind a flag for the flag's value.

    Args:
        argv: everything behind the verb.
        options: those that there are, by name.
        rest: the first word ends the options: it and all behind it are words.
    """
    words: list[str] = []
    found: list[str] = []
    tokens = list(argv)
    while tokens:
        token = SHORT.get(tokens[0], tokens[0])
        if not token.startswith("--"):
            if rest:
                return tokens, found
            words.append(tokens.pop(0))
            continue
        tokens.pop(0)
        name, equals, value = token.partition("=")
        name = name[2:].replace("-", "_")
        if not equals and name != "help":
            equals, value = _value(tokens, flag=name in options and options[name].type is bool)
        found.append(f"--{name}{equals}{value}")
    return words, found


def arguments(form: Form, words: list[str]) -> list[Any]:
    """The words as a function's arguments: one text for each, and a list of those left for the last where it takes several.

    Raises:
        UsageError: a word is missing, is one too many, or is none of those allowed.
    """
    most = None if form.words and form.words[-1].several else len(form.words)
    if len(words) < sum(word.required for word in form.words):
        raise UsageError(f"It is used as: {form.usage}.")
    if most is not None and len(words) > most:
        raise UsageError(f"'{words[most]}' is one word too many. It is used as: {form.usage}.")
    for word, text in zip(form.words, words, strict=False):
        if (choices := choices_of(word.type)) and text not in choices:
            raise UsageError(unknown(word.name, text, choices))
    if most is not None:
        return list(words)
    alone = len(form.words) - 1
    return [*words[:alone], words[alone:]]


def choices_of(type_: Any) -> list[str]:
    """The texts that a Literal type allows; none for another type."""
    return [str(x) for x in typing.get_args(type_)] if typing.get_origin(type_) is typing.Literal else []


def _value(tokens: list[str], *, flag: bool) -> tuple[str, str]:
    """Take an option's value from the tokens behind it: '=' and the value, or twice '' where there is none."""
    if flag and (not tokens or tokens[0].lower() not in ("true", "false")):
        return "=", "true"
    if not tokens or (tokens[0].startswith("--") and not tokens[0][2:3].isdigit()):
        return "", ""
    return "=", tokens.pop(0)


def _parsed(form: Form, given: list[str]) -> dict[str, Any]:
    from jsonargparse import ArgumentError

    options = form.options
    try:
        plain = [_plain(options, option) for option in given]
        found = parser(options.values(), command_line=True).parse_args(plain, defaults=False).as_dict()
        for name, value in found.items():
            values.refuse_odd_numbers(value, options[name].default)
    except (ArgumentError, values.WrongValue, OverflowError):
        raise UsageError(_wrong(form, given)) from None
    return {name: _since_last_empty(value) if options[name].several else value for name, value in found.items()}


def _plain(options: Mapping[str, Setting], option: str) -> str:
    """'--name=value' with a value that the parser converts as intended, see `values.plain`."""
    name, equals, value = option.partition("=")
    base, dot, _ = name[2:].partition(".")
    if base not in options or not equals or (dot and not _holds_names(options[base])):
        return option
    type_ = options[base].type
    kind = str if options[base].several else values.value_type(type_) if dot else type_
    return f"{name}={values.plain(kind, value)}"


def _since_last_empty(texts: list[str]) -> tuple[str, ...]:
    """The texts behind the last '', which empties the list."""
    start = max((i + 1 for i, text in enumerate(texts) if not text), default=0)
    return tuple(texts[start:])


def _wrong(form: Form, given: list[str]) -> str:
    """One sentence about the first option that the parser does not take."""
    options = form.options
    for option in given:
        name, equals, value = option[2:].partition("=")
        base, dot, _ = name.partition(".")
        if not options:
            return f"{form.what} takes no options: leave out --{name}."
        if base not in options or (dot and not _holds_names(options[base])):
            return unknown("setting", name, list(options), of=form.what)
        if not equals:
            return f"--{name} needs a value."
        if dot:
            try:
                values.plain(values.value_type(options[base].type), value)
            except values.WrongValue as error:
                return f"--{name} of {form.what} {error}, not {shown(value)}."
        else:
            typed(form.what, options, {name: [value] if options[name].several else value})
    return f"The options {' '.join(given)} of {form.what} cannot be read together."


def _holds_names(setting: Setting) -> bool:
    """Whether a setting is a mapping, so that '--name.key' sets one of its values."""
    return any(typing.get_origin(t) is dict for t in (setting.type, *typing.get_args(setting.type)))


def usage(form: Form) -> None:
    """Print how a command is used: each option with its type, default and meaning."""
    from rich.markup import escape
    from rich.table import Table

    out = console()
    out.print(f"[bold]usage:[/] {escape(form.usage)}\n\n{escape(form.summary)}")
    for title, options in form.groups.items():
        table = Table(
            title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), show_header=False
        )
        for s in options.values():
            default = (
                "" if s.default in (None, "", (), inspect.Parameter.empty) else f" [dim]\\[{escape(str(s.default))}][/]"
            )
            table.add_row(f"  --{s.name}", f"[cyan]{escape(s.typename)}[/]", escape(s.help) + default)
        if options:
            out.print()
            out.print(table)
