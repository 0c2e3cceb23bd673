"""Hide secrets in what is shown or written: variables, options, commands and free text.

A name means a secret where one of its words does: `HF_TOKEN`, `apiKeys`, `DB_PASS`. Text is searched for named values, for the
password in an address (`ftp://me:pw@host`) or a login (`-u me:pw`), for `Bearer` and for tokens in a well-known form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

HIDDEN = "***"
"""Shown in place of a secret."""
FOLDERS = ("PWD", "OLDPWD")
"""Variables with the current and the previous folder; elsewhere PWD is a password."""
ALWAYS = {
    "passcode", "pw", "pwd", "pat", "pats", "cred", "creds", "bearer", "authorization", "cookie", "cookies", "jwt", "jwts",
    "otp", "totp", "mnemonic", "webhook", "webhooks", "dsn", "pem", "connstr",
}  # fmt: skip
"""Words that mean a secret wherever they stand in a name."""
COMPOUND = re.compile(
    r"(password|passwd|passphrase|passwort|secret|token|credential)s?$|(?<!^old)pwd$"
    r"|(api|access|secret|private|account|ssh|gpg|pgp|rsa|deploy|signing|encryption|master|license|auth|aes|hmac|service|shared|"
    r"client|admin|storage|session|pass|app)keys?$"
    r"|(db|user|root|admin|my|smtp|redis|ssh|mail|ftp|http|sudo|postgres|mysql|mongo|ldap|sql|proxy)pass$|(github|gitlab|gh)pat$"
)
"""The end of a word that means a secret, also where words are written together: PGPASSWORD, authtoken."""
LAST = {"key", "keys", "pass", "auth", "pin", "sas", "phrase"}
"""Words that mean a secret at the end of a name, where the word in front does not say otherwise."""
PARTS = {
    "id", "ids", "base", "b64", "base64", "data", "value", "json", "string", "material", "config", "header",
}  # fmt: skip
"""Words behind one of `LAST` that do not change what it means: ACCESS_KEY_ID, DOCKER_AUTH_CONFIG."""
HARMLESS_FIRST = {
    "public", "primary", "foreign", "sort", "cache", "partition", "num", "n", "number", "max", "min", "query", "index",
    "dict", "map", "join", "group", "hot", "total", "unique", "row", "column", "metric", "search", "lookup", "per", "first",
    "second", "single", "multi", "forward", "backward", "render", "count", "pad", "mask", "eos", "bos", "cls", "sep", "unk",
    "special", "x", "y", "z",
}  # fmt: skip
"""A word in front of which nothing secret stands: max_tokens, public_key, first_pass, pad_token."""
HARMLESS_LAST = {
    "path", "file", "dir", "folder", "mode", "type", "name", "names", "length", "len", "size", "sizes", "count", "counts",
    "limit", "dim", "dims", "rate", "loss", "embedding", "embeddings", "level", "per", "sock", "socket",
}  # fmt: skip
"""Last words of names whose value is no secret: RAY_AUTH_TOKEN_PATH, token_dim."""
PAIRS = (("connection", ["string"]), ("conn", ["string"]), ("conn", ["str"]))
"""Two words that mean a secret together."""
COUNTED = {"tokens", "keys"}
"""Words that count something where the value is a number: --tokens 512."""
SCHEMES = ("bearer", "basic", "digest", "token", "negotiate")
"""Words in front of the secret in an Authorization header."""
LOGINS = ("-u", "-U", "--user", "--proxy-user", "--login", "--userpwd")
"""Options of common programs whose value is USER:PASSWORD."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_NUMBER = re.compile(r"\s*[-+]?\d{1,9}(\.\d*)?([eE]\d)?\s*")
_BLOCK = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_ADDRESS = re.compile(r"(://[^\s/:@'\"]*:)(?!\d+(?:[/?#\s]|$))[^\s'\"]+@")
_USER = re.compile(r"(://)[^\s/:@'\"]{16,}@")
_BEARER = re.compile(r"\b(bearer\s+)[^\s'\",;]+", re.IGNORECASE)
_HEADER = re.compile(
    r"\b(authorization['\"]?\s*[:=]\s*['\"]?(?:(?:basic|digest|token|negotiate)\s+)?)(?!bearer\b)[^\s'\"]+",
    re.IGNORECASE,
)
_LOGIN = re.compile(rf"((?:^|\s)(?:{'|'.join(LOGINS)})(?:\s+|=|(?<=-u))['\"]?(?!\d+:)[^\s:='\"]+:)[^\s'\"]+")
_NAMED = re.compile(
    r"(?P<head>(?<![\w.-])-{0,2}(?P<name>[A-Za-z_][\w.-]*)['\"]?(?:\s*=\s*|:\s*(?!//)))(?P<value>\"[^\"]*\"?|'[^']*'?|[^\s'\"]\S*)"
)
_OPTION = re.compile(r"(?P<head>(?<!\S)--?(?P<name>[A-Za-z][\w.-]*)\s+)(?P<value>\"[^\"]*\"?|'[^']*'?|[^\s'\"-]\S*)")
_KNOWN = re.compile(
    r"\b(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_[A-Za-z0-9]{20,}|sk-[\w-]{20,}|xox[abprs]-[\w-]{10,}"
    r"|(AKIA|ASIA)[A-Z0-9]{16}|eyJ[\w-]{10,}\.[\w-]{5,}\.[\w-]*)"
)


def is_secret(name: str, value: str = "") -> bool:
    """Whether a variable or option with this name (and value, where it is known) holds a secret."""
    words = [word.lower() for word in _WORD.findall(name)]
    if not words or name in FOLDERS or words[-1] in HARMLESS_LAST:
        return False
    return any(_is_secret(words, at, value) for at in range(len(words)))


def _is_secret(words: list[str], at: int, value: str) -> bool:
    word, before, behind = words[at], words[max(at - 1, 0) : at], words[at + 1 :]
    if set(before) & HARMLESS_FIRST or "per" in behind or (word in COUNTED and _NUMBER.fullmatch(value)):
        return False
    if word in LAST:
        return all(after in PARTS or after.isdigit() for after in behind)
    return word in ALWAYS or COMPOUND.search(word) is not None or (word, behind[:1]) in PAIRS


def hide_value(name: str, value: Any) -> Any:
    """The value of a variable or option, hidden where its name means a secret, else with the secrets in it hidden."""
    return HIDDEN if isinstance(value, str) and is_secret(name, value) else hide(value)


def hide_env(env: Mapping[str, str]) -> dict[str, str]:
    """The variables with their secrets hidden, for showing and storing."""
    return {name: hide_value(name, value) for name, value in env.items()}


def hide_command(command: Sequence[str]) -> tuple[str, ...]:
    """The command with its secrets hidden (--x.token=V, --token V, -u me:V, ftp://me:V@host), for showing and storing."""
    return tuple(_hide_behind(before, word) for before, word in zip(("", *command), command, strict=False))


def _hide_behind(before: str, word: str) -> str:
    """A word of a command, which may be the value of the option in front of it."""
    if before in LOGINS and (login := re.fullmatch(r"(?!\d+:)([^:=]+:).+", word, re.DOTALL)):
        return login[1] + HIDDEN
    if before.startswith("-") and "=" not in before and is_secret(before.lstrip("-"), word):
        return HIDDEN
    if before.lower() in ("bearer", "authorization:"):
        return HIDDEN
    name, equals, value = word.partition("=")
    if equals and name.startswith("-") and is_secret(name.lstrip("-"), value):
        return f"{name}={HIDDEN}"
    return hide(word)


def hide(value: Any) -> Any:
    """A text, or each text of a list, with its secrets hidden; values of other types are returned unchanged.

    The value of a named secret is hidden (NAME=VALUE, "name": "value", --name VALUE) unless it only names a variable ($TOKEN).
    """
    if isinstance(value, list | tuple):
        return [hide(item) for item in value]
    if not isinstance(value, str):
        return value
    text = _BLOCK.sub(HIDDEN, value)
    text = _USER.sub(rf"\1{HIDDEN}@", _ADDRESS.sub(rf"\1{HIDDEN}@", text))
    for known in (_BEARER, _HEADER, _LOGIN):
        text = known.sub(rf"\g<1>{HIDDEN}", text)
    return _OPTION.sub(_hide_named, _NAMED.sub(_hide_named, _KNOWN.sub(HIDDEN, text)))


def _hide_named(found: re.Match[str]) -> str:
    value = found["value"]
    bare = value.strip("'\"")
    if (
        bare.startswith("$")
        or bare.lower() in SCHEMES
        or not is_secret(found["name"].rpartition(".")[2] or found["name"], bare)
    ):
        return found["head"] + _NAMED.sub(_hide_named, value)
    quote = value[0] if value[0] in "'\"" else ""
    end = quote if quote and value.endswith(quote) and len(value) > 1 else ""
    return f"{found['head']}{quote}{HIDDEN}{end}"
