"""The verbs of `reprise`: each is one function, whose signature and docstring describe its command line.

Its positional parameters are the verb's words, its keyword-only parameters its options, and the first line of its docstring is the
verb's summary. The functions are found by import path, so that this module imports none of them.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray_jobs.errors import UsageError, unknown

VERBS: dict[str, str] = {
    "demo": "ray_jobs.demo:demo",
    "list": "ray_jobs.report.catalogue:list_recipes",
    "show": "ray_jobs.report.catalogue:show",
    "train": "ray_jobs.train.verbs:train",
    "resume": "ray_jobs.train.verbs:resume",
    "sample": "ray_jobs.train.inspect:sample",
    "evaluate": "ray_jobs.train.inspect:evaluate",
    "play": "ray_jobs.play.verbs:play",
    "statistics": "ray_jobs.train.evaluation.verbs:statistics",
    "export": "ray_jobs.exchange.verbs:export",
    "import": "ray_jobs.exchange.verbs:import_network",
    "tune": "ray_jobs.tune.tune:tune",
    "reproduce": "ray_jobs.reproduce.reproduce:reproduce",
    "report": "ray_jobs.report.report:report",
    "submit": "ray_jobs.jobs.submit:submit",
    "status": "ray_jobs.jobs.verbs:status",
    "logs": "ray_jobs.jobs.verbs:logs",
    "cancel": "ray_jobs.jobs.verbs:cancel",
    "resubmit": "ray_jobs.jobs.resubmit:resubmit",
    "jobs": "ray_jobs.jobs.verbs:jobs",
    "trust": "ray_jobs.jobs.trust:trust",
    "cluster up": "ray_jobs.jobs.ray_cluster:up",
    "cluster status": "ray_jobs.jobs.ray_cluster:status",
    "cluster down": "ray_jobs.jobs.ray_cluster:down",
    "cluster env": "ray_jobs.jobs.ray_cluster:env",
    "cluster yaml": "ray_jobs.jobs.ray_cluster:yaml",
    "doctor": "ray_jobs.doctor:doctor",
    "completion": "ray_jobs.completion:completion",
}
"""Import path of each verb's function, as 'module:function'. A verb may have two words."""
HELP = ("-h", "--help")
ROOT = Path(__file__).parents[2]


def split(argv: Sequence[str]) -> tuple[str, list[str]]:
    """A verb, and the rest of its command line.

    Raises:
        UsageError: there is no such verb.
        SystemExit: only the first of two words was given, and the verbs that begin with it were printed.
    """
    for count in (2, 1):
        if (verb := " ".join(argv[:count])) in VERBS:
            return verb, list(argv[count:])
    first, *rest = argv
    group = [verb for verb in VERBS if verb.startswith(f"{first} ")]
    if not group:
        raise UsageError(unknown("verb", first, list(dict.fromkeys(verb.split()[0] for verb in VERBS))))
    if not rest or rest[0] in HELP:
        print(f"usage: reprise {first} VERB ...     reprise {first} VERB --help says more\n\n{listed(group)}")
        raise SystemExit(0)
    raise UsageError(unknown(f"verb of {first}", rest[0], [verb.split()[1] for verb in group]))


def function_of(verb: str) -> Callable[..., Any]:
    """The function of a verb; its module is imported."""
    module, _, name = VERBS[verb].partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def summary(verb: str) -> str:
    """The first line of the docstring of a verb's function, read from the source, so that nothing is imported."""
    module, _, name = VERBS[verb].partition(":")
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
    [function] = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    return (ast.get_docstring(function) or "").partition("\n")[0]


def listed(verbs: Sequence[str], columns: int = 120) -> str:
    """The verbs with their summaries, one in each line of at most `columns` characters."""
    width = max(map(len, verbs)) + 3
    room = max(40, columns - width - 2)
    texts = {verb: summary(verb) for verb in verbs}
    return "\n".join(f"  {verb:{width}}{t if len(t) <= room else t[: room - 1] + '…'}" for verb, t in texts.items())
