"""Names and constants of Kubernetes, and parsers of the options that hold several parts in one word, as CLAIM:/PATH."""

from __future__ import annotations

import importlib.metadata
import re

from cluster.job import parse_time

LONGEST = 47
"""Characters of a RayJob's name; KubeRay derives longer names from it."""
GPU = "nvidia.com/gpu"
"""The resource, and the taint, of nodes with GPUs."""
ARCHIVE = "working_dir.zip"
"""File name of the packed working directory."""


def version(package: str) -> str:
    """The installed version of a package; '0' where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "0"


def object_name(text: str) -> str:
    """The text as the name of a RayJob: a-z, 0-9 and '-', a letter first, at most 47 characters; the end is kept.

    A text that is a valid name is returned unchanged.
    """
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()) if not re.fullmatch(r"[a-z0-9-]+", text) else text
    name = name.strip("-") or "job"
    name = name if name[0].isalpha() else f"job-{name}"
    head, dash, suffix = name.rpartition("-")
    if len(name) > LONGEST and dash and len(suffix) < LONGEST - 1:
        name = f"{head[: LONGEST - 1 - len(suffix)].rstrip('-')}-{suffix}"
    return name[:LONGEST].rstrip("-")


def literal(text: str) -> str:
    """The text with each `$` doubled, as commands and variables need it. Source: Kubernetes' expansion of `$(NAME)`."""
    return text.replace("$", "$$")


def parse_volume(word: str) -> tuple[str, str]:
    """(claim, mount path) of 'claim:/path'.

    Raises:
        ValueError: the text has another form.
    """
    return _parts(r"([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?):(/[^:]*)", word, "volume", "CLAIM:/PATH, as in data:/data")


def parse_secret(word: str) -> tuple[str, str, str]:
    """(variable, Secret, key) of 'VARIABLE=secret/key'.

    Raises:
        ValueError: the text has another form.
    """
    pattern = r"([A-Za-z_]\w*)=([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)/([A-Za-z0-9._-]+)"
    return _parts(pattern, word, "secret", "VARIABLE=SECRET/KEY, as in HF_TOKEN=hub/token")


def parse_label(word: str) -> tuple[str, str]:
    """(label, value) of 'label=value'.

    Raises:
        ValueError: the text has another form.
    """
    pattern = r"((?:[a-z0-9.-]+/)?[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)=((?:[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)?)"
    return _parts(pattern, word, "label of nodes", "LABEL=VALUE, as in pool=gpu")


def parse_toleration(word: str) -> dict[str, str]:
    """The toleration meant by 'key', 'key=value', 'key:Effect' or 'key=value:Effect'.

    Raises:
        ValueError: the text has another form.
    """
    pattern = r"([A-Za-z0-9][\w./-]*)(=[\w.-]*)?(:NoSchedule|:PreferNoSchedule|:NoExecute)?"
    key, value, effect = _parts(pattern, word, "toleration", "KEY, KEY=VALUE or KEY=VALUE:NoSchedule")
    what = {"operator": "Exists"} if value is None else {"operator": "Equal", "value": value[1:]}
    return {"key": key, **what, **({"effect": effect[1:]} if effect else {})}


def parse_seconds(word: str) -> int:
    """Seconds [whole] of a time limit such as 04:00:00; see `cluster.job.parse_time`.

    Raises:
        ValueError: the text is no time limit, or Kubernetes does not allow one so short or long.
    """
    if not 0 < (total := parse_time(word)) < 2**31:
        raise ValueError(f"{word!r} is no time limit: it must be from one second to 68 years.")
    return round(total)


def _parts(pattern: str, word: str, what: str, form: str) -> tuple:
    if (match := re.fullmatch(pattern, word, re.ASCII)) is None:
        raise ValueError(f"{word!r} is no {what}: write it as {form}.")
    return match.groups()
