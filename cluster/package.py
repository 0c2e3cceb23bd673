"""What of a working directory goes to a cluster: everything but what is ignored, rebuilt, secret or far too big."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

LIMIT = 100 * 2**20
"""Bytes that a Ray cluster accepts as one package."""

ALWAYS = (
    ".git/",
    ".hg/",
    ".svn/",
    "/runs/",
    "/.reprise/",
    "*.ckpt",
    "__pycache__/",
    ".*_cache/",
    ".hypothesis/",
    ".ipynb_checkpoints/",
    "*.egg-info/",
    "node_modules/",
    ".env",
    ".env.*",
    ".netrc",
    "*.pem",
    "id_rsa",
    "id_ed25519",
    "auth_token",
)
"""Left out whatever .gitignore says: history, results, caches, and files that hold secrets."""


def mib(size: int) -> str:
    """Bytes in words."""
    return f"{size / 2**20:.1f} MiB"


@dataclass(frozen=True)
class Package:
    """The files that would be sent, and what stays behind; all paths are relative to `root`, sorted."""

    root: Path
    files: tuple[tuple[str, int], ...]
    """(path, bytes)."""
    excluded: tuple[str, ...]
    """Files and whole folders (with a trailing slash)."""

    @property
    def size(self) -> int:
        """Bytes before compression."""
        return sum(size for _, size in self.files)

    def listing(self) -> list[str]:
        """Lines that tell what would be sent, and what not."""
        told = f"working directory {self.root.absolute()}: {len(self.files)} files, {mib(self.size)}"
        return [told, *(f"  left out: {path}" for path in self.excluded)]

    def largest(self, n: int = 3) -> str:
        """The n largest files with their sizes, as text."""
        top = sorted(self.files, key=lambda item: -item[1])[:n]
        return ", ".join(f"{path} ({mib(size)})" for path, size in top)


@dataclass(frozen=True)
class Rule:
    """One line of an ignore file that lies in `base` ('' or 'folder/'). Source: gitignore(5)."""

    base: str
    pattern: re.Pattern[str]
    keeps: bool
    folders_only: bool

    def matches(self, path: str, folder: bool) -> bool:
        """Whether the line speaks of this path (relative to the root)."""
        inside = path.startswith(self.base)
        return (
            inside and (folder or not self.folders_only) and self.pattern.fullmatch(path[len(self.base) :]) is not None
        )


def rules(lines: Iterable[str], base: str = "") -> list[Rule]:
    """The rules of an ignore file's lines; blank lines and comments are none."""
    found = []
    for line in lines:
        text = re.sub(r"(?<!\\)\s+$", "", line.rstrip("\n"))
        if text and not text.startswith("#"):
            found.append(_rule(text, base))
    return found


def ignored(path: str, folder: bool, known: Iterable[Rule]) -> bool:
    """Whether the last rule that speaks of the path leaves it out."""
    verdict = False
    for rule in known:
        if rule.matches(path, folder):
            verdict = not rule.keeps
    return verdict


def collect(root: Path) -> Package:
    """Walks the folder; an ignored folder is not entered, and links to folders are not followed.

    Raises:
        ValueError: `root` is no folder.
    """
    if not root.is_dir():
        raise ValueError(f"There is no folder {root} to send to the cluster.")
    files: list[tuple[str, int]] = []
    excluded: list[str] = []
    always = rules(ALWAYS)
    _walk(root, "", [], always, files, excluded)
    return Package(root, tuple(sorted(files)), tuple(sorted(excluded)))


def write_zip(package: Package, path: Path) -> int:
    """Packs the files; equal files make equal bytes, so that a cluster that has them is sent nothing. Returns bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, _ in package.files:
            source = package.root / name
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.external_attr = (0o755 if os.access(source, os.X_OK) else 0o644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, source.read_bytes())
    return path.stat().st_size


def _walk(root: Path, base: str, known: list[Rule], always: list[Rule], files: list, excluded: list) -> None:
    for name in (".gitignore", ".rayignore"):
        if (root / base / name).is_file():
            known = known + rules((root / base / name).read_text(errors="replace").splitlines(), base)
    for entry in os.scandir(root / base):
        path, folder = base + entry.name, entry.is_dir()
        if _left_out(entry) or ignored(path, folder, always) or ignored(path, folder, known):
            excluded.append(path + "/" * folder)
        elif folder:
            _walk(root, path + "/", known, always, files, excluded)
        else:
            files.append((path, entry.stat().st_size))


def _left_out(entry: os.DirEntry[str]) -> bool:
    """Virtual environments, links to folders, broken links, sockets and pipes."""
    if entry.is_dir():
        return entry.is_symlink() or (Path(entry.path) / "pyvenv.cfg").exists()
    return not entry.is_file()


def _rule(text: str, base: str) -> Rule:
    keeps = text.startswith("!")
    text = text[1:] if keeps else text
    folders_only = text.endswith("/")
    text = text.rstrip("/") if folders_only else text
    anywhere = "/" not in text  # a pattern with a slash inside counts from the ignore file's own folder
    body = _translate(text.removeprefix("/"))
    return Rule(base, re.compile(f"(?:.*/)?{body}" if anywhere else body, re.DOTALL), keeps, folders_only)


_TOKENS = re.compile(
    r"(?P<deep>(?<![^/])\*\*/)|(?P<rest>/\*\*$)|(?P<star>\*+)|(?P<any>\?)|(?P<set>\[!?\]?[^\]]*\])|\\?(?P<one>.)",
    re.DOTALL,
)


def _translate(text: str) -> str:
    """A gitignore pattern as a regular expression."""
    fixed = {"deep": "(?:.*/)?", "rest": "/.+", "star": "[^/]*", "any": "[^/]"}
    body = ""
    for match in _TOKENS.finditer(text):
        kind, found = match.lastgroup or "one", match[match.lastgroup or "one"]
        if kind == "set":
            inner = found[1:-1].replace("\\", "\\\\")
            body += f"(?!/)[{'^' + inner[1:] if inner.startswith('!') else inner}]"
        else:
            body += fixed.get(kind, re.escape(found))
    return body
