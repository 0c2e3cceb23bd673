"""The address of a Ray cluster's dashboard, and the token for it."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from cluster.job import LauncherError
from cluster.ray_clusters.plan import bracket
from cluster.ray_clusters.record import known, running, token_for

DASHBOARD = 8265
"""Ray's usual port of the dashboard."""


def address_of(given: str = "") -> str:
    """The URL of a cluster's dashboard.

    Args:
        given: the dashboard's URL; the name of a cluster that `reprise cluster up` started here; or an address of Ray itself
            (`host:6379`, `ray://host:10001`), which stands for port 8265 of the same host unless it belongs to a cluster
            started here. '' takes RAY_API_SERVER_ADDRESS, else RAY_ADDRESS, else the cluster that was started on this
            machine, else port 8265 here.

    Raises:
        ValueError: `given` is no address, or several clusters are up and none was named.
    """
    text = given or _named() or "auto"
    if not text.isprintable() or " " in text:
        raise ValueError(f"{text!r} is no address of a Ray cluster: it has a blank; write it as http://HOST:8265.")
    if text in ("auto", "local"):
        return _here()
    for cluster in known():
        if text in (cluster.name, cluster.address):
            return cluster.url
    try:
        parts = urlsplit(text if "://" in text else f"ray://{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("http", "https", "ray"):
        raise ValueError(f"{text!r} is no address of a Ray cluster: write it as http://HOST:8265.")
    if parts.scheme == "ray":
        return f"http://{bracket(host)}:{port if port == DASHBOARD else DASHBOARD}"
    return f"{parts.scheme}://{bracket(host)}:{port or DASHBOARD}{parts.path.rstrip('/')}"


def _named() -> str:
    """The address that the environment names; '' for none."""
    names = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
    return next((value for name in names if (value := os.environ.get(name, "").strip())), "")


def _here() -> str:
    """The dashboard of this machine's cluster."""
    up = running()
    if len(up) > 1:
        names = ", ".join(cluster.name for cluster in up)
        raise ValueError(f"Several clusters are up here ({names}): name one with --address.")
    return up[0].url if up else f"http://127.0.0.1:{DASHBOARD}"


def token_of(url: str) -> str:
    """The token for this dashboard: that of the cluster started here, else the one of Ray's own variables; '' for none.

    Raises:
        LauncherError: the file that RAY_AUTH_TOKEN_PATH names cannot be read.
    """
    if (own := token_for(url)) or os.environ.get("RAY_AUTH_MODE") == "disabled":
        return own
    if given := os.environ.get("RAY_AUTH_TOKEN"):
        return given.strip()
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named or "~/.ray/auth_token").expanduser()
    try:
        return path.read_text().strip() if named or os.environ.get("RAY_AUTH_MODE") == "token" else ""
    except OSError as error:
        raise LauncherError(
            f"The cluster's token cannot be read from {path} ({error.strerror}): set RAY_AUTH_TOKEN_PATH to the file that holds it."
        ) from None
