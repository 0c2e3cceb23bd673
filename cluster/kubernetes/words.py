"""Kubernetes' own words: names, and what a place's options say in one word each."""

from __future__ import annotations

import re

from cluster.job import parse_time

LONGEST = 47
"""Letters of a RayJob's name; KubeRay derives longer ones from it."""


def object_name(text: str) -> str:
    """The text as the name of a RayJob: a-z, 0-9 and '-', a letter first, at most 47 long; the end is kept.

    A name that is one already stays as it is.
    """
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()) if not re.fullmatch(r"[a-z0-9-]+", text) else text
    name = name.strip("-") or "job"
    name = name if name[0].isalpha() else f"job-{name}"
    head, dash, suffix = name.rpartition("-")
    if len(name) > LONGEST and dash and len(suffix) < LONGEST - 1:
        name = f"{head[: LONGEST - 1 - len(suffix)].rstrip('-')}-{suffix}"
    return name[:LONGEST].rstrip("-")


def literal(text: str) -> str:
    """The text as Kubernetes must be given it in a command or variable. Source: its expansion of `$(NAME)`."""
    return text.replace("$", "$$")


def volume_word(word: str) -> tuple[str, str]:
    """(claim, mount path) of 'claim:/path'.

    Raises:
        ValueError: it is not written so.
    """
    return _parts(r"([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?):(/[^:]*)", word, "volume", "CLAIM:/PATH, as in data:/data")


def secret_word(word: str) -> tuple[str, str, str]:
    """(variable, Secret, key) of 'VARIABLE=secret/key'.

    Raises:
        ValueError: it is not written so.
    """
    pattern = r"([A-Za-z_]\w*)=([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)/([A-Za-z0-9._-]+)"
    return _parts(pattern, word, "secret", "VARIABLE=SECRET/KEY, as in HF_TOKEN=hub/token")


def label_word(word: str) -> tuple[str, str]:
    """(label, value) of 'label=value'.

    Raises:
        ValueError: it is not written so.
    """
    pattern = r"((?:[a-z0-9.-]+/)?[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)=((?:[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)?)"
    return _parts(pattern, word, "label of nodes", "LABEL=VALUE, as in pool=gpu")


def toleration_word(word: str) -> dict[str, str]:
    """The toleration meant by 'key', 'key=value', 'key:Effect' or 'key=value:Effect'.

    Raises:
        ValueError: it is not written so.
    """
    pattern = r"([A-Za-z0-9][\w./-]*)(=[\w.-]*)?(:NoSchedule|:PreferNoSchedule|:NoExecute)?"
    key, value, effect = _parts(pattern, word, "toleration", "KEY, KEY=VALUE or KEY=VALUE:NoSchedule")
    what = {"operator": "Exists"} if value is None else {"operator": "Equal", "value": value[1:]}
    return {"key": key, **what, **({"effect": effect[1:]} if effect else {})}


def seconds_word(word: str) -> int:
    """Whole seconds of a time limit, as `parse_time` reads it.

    Raises:
        ValueError: it is not written so, or longer or shorter than Kubernetes takes.
    """
    if not 0 < (total := parse_time(word)) < 2**31:
        raise ValueError(f"{word!r} is no time limit: it must be from one second to 68 years.")
    return round(total)


def _parts(pattern: str, word: str, what: str, form: str) -> tuple:
    if (match := re.fullmatch(pattern, word, re.ASCII)) is None:
        raise ValueError(f"{word!r} is no {what}: write it as {form}.")
    return match.groups()
