"""Profiles of a project that the user has approved."""

from __future__ import annotations

from pathlib import Path

from cluster import profiles
from cluster.trust import approve


def write(text: str | bytes, path: Path = Path("clusters.yaml")) -> None:
    """Write a project's profiles, and approve them."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    approve(path.absolute(), profiles.approval(path.absolute()))
