"""One bounded question to a Ray dashboard, by the standard library alone; what goes wrong is one sentence."""

from __future__ import annotations

import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.job import LauncherError

CA = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
"""Variables that name a file of certificates to trust, the first that is set."""


def ask(url: str, path: str, *, timeout: float = 4.0, headers: Mapping[str, str] | None = None) -> Any:
    """What the dashboard at `url` answers to GET `path`, as JSON.

    Raises:
        LauncherError: nothing answers within `timeout` seconds, its certificate is not trusted, it wants another token,
            or what answers is no dashboard.
    """
    try:
        request = urllib.request.Request(f"{url}{path}", headers=dict(headers or {}))
        with urllib.request.urlopen(request, timeout=timeout, context=_context(url)) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        refused = error.code in (401, 403)
        raise LauncherError(
            wants_token(url) if refused else unreachable(url, f"what is there says {error.code}")
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise LauncherError(untrusted(url, reason.verify_message)) from None
        raise LauncherError(unreachable(url, reason)) from None


def bearer(token: str) -> dict[str, str]:
    """The header that carries a token; none for ''."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def authorities() -> str:
    """The file of certificates to trust, by the environment; '' for the system's own."""
    return next((os.environ[name] for name in CA if os.environ.get(name)), "")


def wants_token(url: str) -> str:
    return (
        f"The Ray cluster at {url} wants a token that was not sent or is not the right one: "
        "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to a file that holds the cluster's token."
    )


def untrusted(url: str, why: object) -> str:
    return (
        f"The certificate of {url} is not trusted ({why}): name the file of the authority that signed it in "
        "REQUESTS_CA_BUNDLE."
    )


def unreachable(url: str, reason: object) -> str:
    return (
        f"No Ray cluster answers at {url} ({reason}): start one with `reprise cluster up`, or name its dashboard with "
        "--address http://HOST:8265 or RAY_ADDRESS."
    )


def _context(url: str) -> ssl.SSLContext | None:
    """TLS with the certificates to trust.

    Raises:
        LauncherError: the file that should hold them does not.
    """
    if not url.startswith("https:"):
        return None
    named = authorities()
    try:
        if named and Path(named).is_dir():
            return ssl.create_default_context(capath=named)
        return ssl.create_default_context(cafile=named or None)
    except (OSError, ssl.SSLError) as error:
        raise LauncherError(f"{named} holds no certificates to trust ({error}): mend REQUESTS_CA_BUNDLE.") from None
