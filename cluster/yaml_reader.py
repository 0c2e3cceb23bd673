"""Read YAML that anyone may have written: bounded in bytes, nodes and depth, with plain values as YAML 1.2 reads them.

Files hold settings and profiles, which are short, so a long or deep one is a mistake or an attack: an alias of aliases can stand for
a billion values. YAML 1.1 reads True for `on`, 90 for `1:30`, a text for `1e-3` and a date for `2024-01-31`; YAML 1.2 reads
text, text, a number and text.

Source: YAML 1.2.2 (yaml.org/spec/1.2.2), section 10.3, the core schema. Differs: no tags, anchors, aliases or second document; a name
stands once in a mapping; `300_000` is a number, as in Python.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES, MOST_NODES, MOST_DEPTH = 2**16, 5_000, 20
"""Bounds of one file: its size, its values (names count too), and lists or mappings within each other."""
MOST_DIGITS = 400
"""Characters of a number; more of them are text. Every float has fewer."""
WORDS = {"null": None, "~": None, "": None, "true": True, "false": False}
WHOLE = re.compile(r"[-+]?\d+(_\d+)*|0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
FRACTION = re.compile(r"[-+]?(\.\d+|\d+(_\d+)*(\.\d*)?)([eE][-+]?\d+)?", re.ASCII)
SPECIAL = re.compile(r"([-+]?)\.(inf|nan)", re.IGNORECASE)

Pairs = dict[str, tuple[yaml.Node, yaml.Node]]


class YamlError(ValueError):
    """What is wrong with a YAML text, in one sentence with file and line."""


def read(path: str | Path) -> yaml.Node | None:
    """The tree of values in a file; None where it is empty.

    Raises:
        YamlError: it cannot be read, is no UTF-8, no YAML, or beyond a bound.
    """
    data = _bytes(Path(path))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise YamlError(f"{path}, line {line}, cannot be read: it is not UTF-8 (0x{data[error.start]:02x}).") from None
    return compose(text, str(path))


def compose(text: str, name: str = "") -> yaml.Node | None:
    """The tree of values in a text; None where it is empty. Plain values are not converted yet, see `value`.

    Args:
        name: of the file, for the sentence.

    Raises:
        YamlError: it is no YAML, or beyond a bound.
    """
    loader = None
    try:
        loader = _Bounded(text)
        node: yaml.Node | None = loader.get_single_node()
        return node
    except yaml.reader.ReaderError as error:
        where, why = text[: error.position].count("\n"), f"the character U+{error.character:04X} is not allowed"
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where, why = mark.line if mark else 0, " ".join(filter(None, [error.context, error.problem]))
    except (ValueError, OverflowError):  # PyYAML's own: the escape of no character, a directive of 5,000 digits
        where, why = loader.line if loader else 0, "an escape or a directive cannot be read"
    raise YamlError(f"{_at(name, where + 1)}this is not YAML that can be read here: {why}.")


def value(node: yaml.Node | None, name: str = "") -> Any:
    """What a tree holds: mappings, lists, texts, numbers, True, False and None.

    Args:
        name: of the file, for the sentence.

    Raises:
        YamlError: a mapping has a name twice, or one that is no text.
    """
    if isinstance(node, yaml.MappingNode):
        return {key: value(item, name) for key, (_, item) in pairs(node, name).items()}
    if isinstance(node, yaml.SequenceNode):
        return [value(item, name) for item in node.value]
    if node is None or (node.style is None and node.value.lower() in WORDS):
        return WORDS[node.value.lower()] if node else None
    return node.value if node.style else _number(node.value)


def text_of(node: yaml.ScalarNode) -> str | None:
    """A text exactly as written, whatever a plain value would stand for; None where there is no value."""
    return None if node.style is None and node.value in ("", "~", "null") else node.value


def pairs(node: yaml.MappingNode, name: str = "") -> Pairs:
    """The entries of a mapping: each name with the nodes of name and value.

    Raises:
        YamlError: a name is there twice, or is no text.
    """
    found: Pairs = {}
    for key, item in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise YamlError(f"{_at(name, line(key))}a name must be one word or text, not a list or mapping.")
        if key.value in found:
            raise YamlError(f"{_at(name, line(key))}'{key.value}' is there twice: keep one.")
        found[key.value] = (key, item)
    return found


def line(node: yaml.Node) -> int:
    """The line of a node, from 1."""
    return int(node.start_mark.line) + 1


def loads(text: str) -> Any:
    """The value of a text without a name, such as an option's.

    Raises:
        YamlError: see `compose` and `value`.
    """
    return value(compose(text))


class _Bounded(yaml.BaseLoader):
    """PyYAML's loader of trees, which refuses what is beyond a bound where it comes to it."""

    nodes = depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        self.nodes, self.depth = self.nodes + 1, self.depth + 1
        if why := self._against(event):
            raise yaml.composer.ComposerError(None, None, why, event.start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        if isinstance(node, yaml.ScalarNode) and any(c == "\0" or "\ud800" <= c <= "\udfff" for c in node.value):
            raise yaml.composer.ComposerError(None, None, "a text holds a character that no text has", event.start_mark)
        self.depth -= 1
        return node

    def _against(self, event: yaml.Event) -> str:
        """Why a value is refused; '' where nothing speaks against it."""
        if self.nodes > MOST_NODES:
            return f"there are more than {MOST_NODES} values"
        if self.depth > MOST_DEPTH:
            return f"lists and mappings are more than {MOST_DEPTH} deep"
        if isinstance(event, yaml.AliasEvent) or event.anchor:
            return "anchors (&) and aliases (*) are not read; write the value out, or in quotes where it is text"
        return "tags (!) are not read; write the value alone, or in quotes where it is text" if event.tag else ""


def _bytes(path: Path) -> bytes:
    """The bytes of a regular file within the bound.

    Raises:
        YamlError: it is none, is larger, or cannot be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would wait
        with open(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise YamlError(f"{path} cannot be read: it is no regular file.")
            data = file.read(MOST_BYTES + 1)
    except (OSError, UnicodeEncodeError) as error:
        raise YamlError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'that is no name'}.") from None
    if len(data) > MOST_BYTES:
        raise YamlError(f"{path} cannot be read: it has more than {MOST_BYTES // 1024} KiB, too much for settings.")
    return data


def _number(text: str) -> int | float | str:
    """The number that a plain text is, else the text."""
    if len(text) > MOST_DIGITS:
        return text
    if WHOLE.fullmatch(text):
        return int(text, 0 if text[1:2] in ("o", "x") else 10)
    if FRACTION.fullmatch(text):
        return float(text)
    if special := SPECIAL.fullmatch(text):
        return float(special[1] + special[2])
    return text


def _at(name: str, line: int) -> str:
    return f"{name}, line {line}: " if name else ""
