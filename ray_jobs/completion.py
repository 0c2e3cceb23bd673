"""`reprise completion`: a shell completes verbs, recipes, and the options of a verb and its recipe, by argcomplete."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from ray_jobs.command.options import Form, Word, choices_of, spelled
from ray_jobs.command.requests import form_of, reads_itself
from ray_jobs.command.verbs import VERBS, function_of
from ray_jobs.errors import UsageError
from ray_jobs.jobs import backend_options
from ray_jobs.recipe import loading
from ray_jobs.recipe.settings import FamilyName, RecipeName, Setting


def completion(shell: Literal["bash", "zsh", "fish"]) -> None:
    """Print a script that completes commands in a shell.

    In bash: eval "$(reprise completion bash)". It completes verbs, recipes, and the options of a verb and its recipe.

    Args:
        shell: bash, zsh or fish.
    """
    import argcomplete

    print(argcomplete.shellcode(["reprise"], shell=shell))


def complete() -> None:
    """Answer the shell that asks how a command line may continue, and end this process.

    The line is in the variables COMP_LINE and COMP_POINT, as argcomplete's script sets them.
    """
    import argcomplete
    from argcomplete.lexers import split_line

    typed = split_line(os.environ["COMP_LINE"], int(os.environ["COMP_POINT"]))[3]
    argcomplete.autocomplete(parser_for(typed[1:]))


def parser_for(typed: Sequence[str]) -> argparse.ArgumentParser:
    """A parser that knows all verbs, and the words and options of the verb that was typed.

    Args:
        typed: the finished words behind `reprise`.
    """
    parser = argparse.ArgumentParser("reprise", add_help=False)
    _add_verbs(parser, [], typed)
    return parser


def _add_verbs(parser: argparse.ArgumentParser, before: list[str], typed: Sequence[str]) -> None:
    """Add the verbs that begin with the words `before`; the one that was typed gets its own words and options."""
    start, verbs = len(before), parser.add_subparsers()
    for name in dict.fromkeys(v.split()[start] for v in VERBS if v.split()[:start] == before):
        below = verbs.add_parser(name, add_help=False)
        if list(typed[:1]) != [name]:
            continue
        if (verb := " ".join([*before, name])) in VERBS:
            _add_form(below, verb, typed[1:])
        else:
            _add_verbs(below, [*before, name], typed[1:])


def _add_form(parser: argparse.ArgumentParser, verb: str, typed: Sequence[str]) -> None:
    """Add a verb's words and options; those of `submit` end where the command that it sends begins."""
    form = _form(verb, typed)
    for setting in form.options.values():
        _add_option(parser, setting)
    for word in form.words:
        added: Any = parser.add_argument(word.name, nargs="*" if word.several else "?")
        added.completer = _names(word.type)
    if verb == "submit":
        command, _ = spelled(typed, form.options, rest=True)
        _add_verbs(parser, [], command)


def _form(verb: str, typed: Sequence[str]) -> Form:
    """What the verb's command line may hold; only a recipe where that is not typed yet."""
    try:
        return backend_options.form_of(verb, typed) if reads_itself(function_of(verb)) else form_of(verb, typed)
    except UsageError:
        return Form(verb, "", words=(Word("recipe", RecipeName),))


def _add_option(parser: argparse.ArgumentParser, setting: Setting) -> None:
    flag = setting.type is bool
    text = setting.help.replace("%", "%%")
    added: Any = parser.add_argument(f"--{setting.name}", nargs="?" if flag else None, help=text)
    if flag or setting.type in (int, float):
        added.completer = _only(["true", "false"] if flag else [])
    elif choices := choices_of(setting.type):
        added.completer = _only(choices)


def _names(type_: Any) -> Callable[..., Iterable[str]] | None:
    """A completer for words of this type; None completes files."""
    if type_ == RecipeName:
        return lambda **_: [*loading.names(), *loading.systems()]
    if type_ == FamilyName:
        return lambda **_: loading.families()
    return _only(choices) if (choices := choices_of(type_)) else None


def _only(allowed: Iterable[str]) -> Callable[..., Iterable[str]]:
    return lambda **_: allowed
