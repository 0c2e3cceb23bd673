"""One request to a Ray dashboard with a bounded wait, using only the standard library; errors are one sentence."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cluster.job import LauncherError

CA = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
"""Variables that name a file of certificates to trust, the first that is set."""


def ask(url: str, path: str, *, timeout: float = 4.0, headers: Mapping[str, str] | None = None) -> Any:
    """The JSON answer of the dashboard at `url` to GET `path`.

    Raises:
        LauncherError: nothing answers within `timeout` seconds, the certificate is not trusted, the token is wrong, or the
            answer is not that of a dashboard.
    """
    try:
        request = urllib.request.Request(f"{url}{path}", headers=dict(headers or {}))
        handlers = (urllib.request.HTTPSHandler(context=_context(url)), _Stay())
        with loopback_direct(url), urllib.request.build_opener(*handlers).open(request, timeout=timeout) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        refused = error.code in (401, 403)
        raise LauncherError(wants_token(url) if refused else unreachable(url, f"HTTP status {error.code}")) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise LauncherError(untrusted(url, reason.verify_message)) from None
        raise LauncherError(unreachable(url, reason)) from None


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follow no redirection: the token would be sent to where it leads."""

    def redirect_request(self, *_: Any) -> None:
        """None makes the redirection an error."""


@contextlib.contextmanager
def loopback_direct(url: str) -> Iterator[None]:
    """Inside the block, no proxy of the environment is asked for an address of this machine.

    Everything that speaks HTTP reads NO_PROXY or no_proxy: this module, Ray's client and gRPC.
    """
    host = urlsplit(url).hostname or ""
    names = ("no_proxy", "NO_PROXY")
    before = {name: os.environ.get(name) for name in names}
    if is_loopback(host):
        os.environ.update(without_proxy(host))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})


def is_loopback(host: str) -> bool:
    """Whether a host is this machine's own loopback interface."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def without_proxy(host: str = "127.0.0.1") -> dict[str, str]:
    """The variables that add this machine's loopback addresses to those for which no proxy is asked."""
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    value = ",".join(filter(None, [known, "localhost", "127.0.0.1", "::1", "[::1]", host]))
    return {"no_proxy": value, "NO_PROXY": value}


def bearer(token: str) -> dict[str, str]:
    """The headers with a token; empty for ''."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def authorities() -> str:
    """The file of trusted certificates that the environment names; '' for the system's own."""
    return next((os.environ[name] for name in CA if os.environ.get(name)), "")


def wants_token(url: str) -> str:
    """The message for a token that is missing or wrong."""
    return (
        f"The Ray cluster at {url} wants a token that was not sent or is not the right one: "
        "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to a file that holds the cluster's token."
    )


def untrusted(url: str, why: object) -> str:
    """The message for a certificate that is not trusted."""
    return (
        f"The certificate of {url} is not trusted ({why}): name the file of the authority that signed it in "
        "REQUESTS_CA_BUNDLE."
    )


def unreachable(url: str, reason: object) -> str:
    """The message for a cluster that does not answer."""
    return (
        f"No Ray cluster answers at {url} ({reason}): start one with `reprise cluster up`, or name its dashboard with "
        "--address http://HOST:8265 or RAY_ADDRESS."
    )


def _context(url: str) -> ssl.SSLContext | None:
    """TLS with the trusted certificates; None for plain HTTP.

    Raises:
        LauncherError: the file of certificates cannot be read.
    """
    if not url.startswith("https:"):
        return None
    named = authorities()
    try:
        if named and Path(named).is_dir():
            return ssl.create_default_context(capath=named)
        return ssl.create_default_context(cafile=named or None)
    except (OSError, ssl.SSLError) as error:
        raise LauncherError(f"{named} holds no certificates to trust ({error}): correct REQUESTS_CA_BUNDLE.") from None
