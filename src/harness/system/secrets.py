"""No secret in what is shown or kept: tokens and passwords come from the environment alone and stay there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import quote, quote_plus, unquote, urlsplit

_TELLING = re.compile(
    r"(TOKEN|PASSWORD|PASSWD|(?<=_)PWD|SECRET|CREDENTIALS?|API_?KEY|ACCESS_?KEY|SIGNATURE)(_ID)?$", re.IGNORECASE
)
_LEAST_CHARACTERS = 6  # shorter ones would blacken ordinary words
_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<rest>\S+)")
_IN_QUERY = re.compile(r"(?<=[?&])(?P<name>[^=&?\s]+)=(?P<value>[^&#\s]+)")
MARK = "***"


def redacted(text: str) -> str:
    """Return `text` without the passwords in its addresses and without the values of the environment's secrets.

    A secret is a variable whose name ends in TOKEN, PASSWORD, SECRET, API_KEY or the like, and the password of an
    address in any variable, in the spellings that an address allows.
    """
    for value in sorted(set(_environments_secrets()), key=len, reverse=True):
        if len(value) >= _LEAST_CHARACTERS:
            for spelt in {value, quote(value), quote(value, safe=""), quote_plus(value)}:
                text = text.replace(spelt, MARK)
    return _ADDRESS.sub(lambda found: redacted_address(found[0]), text)


def redacted_address(address: str) -> str:
    """Return a whole address without who may log in there: what stands before its last `@`, secrets in its query.

    A password may hold `@` and `/`, which databases' addresses allow and people type elsewhere too. So all up to the
    last `@` is taken for one where that has a `:`, or the first part up to a `/` a `@`.
    """
    scheme, mark, rest = address.partition("://")
    rest = _IN_QUERY.sub(lambda found: f"{found['name']}={MARK}" if _TELLING.search(found["name"]) else found[0], rest)
    user, at, place = rest.rpartition("@")
    first = re.split(r"[/?#]", rest, maxsplit=1)[0]
    is_user = at and (":" in user or "@" in first)
    return f"{scheme}{mark}{MARK}@{place}" if is_user else f"{scheme}{mark}{rest}"


def without_user(address: str) -> str:
    """Return an address as a browser is to open it: without who logs in, which it asks for."""
    return redacted_address(address).replace(f"{MARK}@", "", 1)


def holds_password(address: str) -> bool:
    """Return whether an address has a user's name or password in front of its host, or a secret in its query."""
    return redacted_address(address) != address


def _environments_secrets() -> Iterator[str]:
    for name, value in os.environ.items():
        if _TELLING.search(name):
            yield value
        if "@" in value and _ADDRESS.match(value):
            yield from _passwords(value)


def _passwords(address: str) -> Iterator[str]:
    """Yield the password of an address as those read it who use it: urllib for servers, SQLAlchemy for databases."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    user, _, typed = address.partition("://")[2].rpartition("@")[0].partition(":")
    found = {typed, unquote(typed)}
    with suppress(ValueError):
        found.add(urlsplit(address).password or "")
    with suppress(ArgumentError, ValueError):
        found.add(str(make_url(address).password or ""))
    yield from found - {user}  # of a test's database, as harness:harness: it is no secret, and is a word
