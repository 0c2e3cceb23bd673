"""The files of a working directory that are sent to a cluster: all but those that are ignored, rebuilt or secret.

`.gitignore` and `.rayignore` are read as git reads them. Differs: a set such as `[!a]` also matches '/', so `src[!a]` leaves
out the folder `src/`; and the pattern `**/` in a sub-folder's file leaves out files too.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

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
_ALWAYS = GitIgnoreSpec.from_lines(ALWAYS)


def mib(size: int) -> str:
    """Bytes as a text in MiB."""
    return f"{size / 2**20:.1f} MiB"


@dataclass(frozen=True)
class Package:
    """The files to send, and those left out; all paths are relative to `root`, sorted."""

    root: Path
    files: tuple[tuple[str, int], ...]
    """(path, bytes)."""
    excluded: tuple[str, ...]
    """Files, and whole folders (with a trailing slash), that are left out."""

    @property
    def size(self) -> int:
        """Bytes before compression."""
        return sum(size for _, size in self.files)

    def listing(self) -> list[str]:
        """Lines for a dry run: what would be sent, and what is left out."""
        head = f"working directory {self.root.absolute()}: {len(self.files)} files, {mib(self.size)}"
        return [head, *(f"  left out: {path}" for path in self.excluded)]

    def largest(self, n: int = 3) -> str:
        """The n largest files with their sizes, as text."""
        top = sorted(self.files, key=lambda item: -item[1])[:n]
        return ", ".join(f"{path} ({mib(size)})" for path, size in top)


def patterns(lines: Iterable[str], base: str = "") -> list[str]:
    """The patterns of an ignore file, written so that they count from the root instead of the file's own folder.

    Args:
        lines: the lines of the file. As in git, a line that is no valid pattern matches nothing.
        base: the file's folder, relative to the root: '' or 'folder/'.
    """
    return [_from_root(line, base) for line in lines if _is_valid(line)]


def ignored(path: str, known: Iterable[str]) -> bool:
    """Whether the patterns leave a path out: the last one that matches decides.

    Source: gitignore(5), as `pathspec.GitIgnoreSpec` reads it.

    Args:
        path: relative to the root; a folder's ends with '/'.
        known: patterns that count from the root.
    """
    return GitIgnoreSpec.from_lines(known).match_file(path)


def _is_valid(line: str) -> bool:
    try:
        return any(pattern.include is not None for pattern in GitIgnoreSpec.from_lines([line]).patterns)
    except ValueError:
        return False


def _from_root(line: str, base: str) -> str:
    if not base:
        return line
    keeps, text = line[:1] == "!", line.removeprefix("!")
    anywhere = "/" not in text.rstrip().removesuffix("/")  # a slash inside ties a pattern to the file's own folder
    folder = re.sub(r"([\\*?\[\]])", r"\\\1", base)
    return "!" * keeps + "/" + folder + "**/" * anywhere + text.removeprefix("/")


def collect(root: Path) -> Package:
    """Find the files to send. An ignored folder is not entered, and links to folders are not followed.

    Raises:
        ValueError: `root` is no folder.
    """
    if not root.is_dir():
        raise ValueError(f"There is no folder {root} to send to the cluster.")
    files: list[tuple[str, int]] = []
    excluded: list[str] = []
    _walk(root, "", [], files, excluded)
    return Package(root, tuple(sorted(files)), tuple(sorted(excluded)))


def write_zip(package: Package, path: Path) -> int:
    """Pack the files into a zip and return its size in bytes.

    Equal files make an equal zip, so that a cluster that has it already receives nothing.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, _ in package.files:
            source = package.root / name
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.external_attr = (0o755 if os.access(source, os.X_OK) else 0o644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, source.read_bytes())
    return path.stat().st_size


def _walk(root: Path, base: str, known: list[str], files: list, excluded: list) -> None:
    known = [*known, *patterns(_ignore_lines(root / base), base)]
    spec = GitIgnoreSpec.from_lines(known)
    for entry in os.scandir(root / base):
        path = base + entry.name + "/" * entry.is_dir()
        if _left_out(entry) or _ALWAYS.match_file(path) or spec.match_file(path):
            excluded.append(path)
        elif entry.is_dir():
            _walk(root, path, known, files, excluded)
        else:
            files.append((path, entry.stat().st_size))


def _ignore_lines(folder: Path) -> list[str]:
    """The lines of the folder's .gitignore, then of its .rayignore, which decides where both match."""
    paths = [folder / name for name in (".gitignore", ".rayignore")]
    return [line for path in paths if path.is_file() for line in path.read_text(errors="replace").splitlines()]


def _left_out(entry: os.DirEntry[str]) -> bool:
    """Whether this is a virtual environment, a link to a folder, a broken link, a socket or a pipe."""
    if entry.is_dir():
        return entry.is_symlink() or (Path(entry.path) / "pyvenv.cfg").exists()
    return not entry.is_file()
