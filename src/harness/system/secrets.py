"""No secret in what is shown or kept: tokens and passwords come from the environment alone and stay there."""

from __future__ import annotations

import os
import re

_TELLING = re.compile(r"(TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIALS?|API_?KEY|ACCESS_?KEY)(_ID)?$", re.IGNORECASE)
_LEAST_CHARACTERS = 6  # shorter ones would blacken ordinary words
_IN_ADDRESS = re.compile(r"//[^/@\s]+@")
MARK = "***"


def redacted(text: str) -> str:
    """Return `text` without the passwords in its addresses and without the values of the environment's secrets.

    A secret is a variable whose name ends in TOKEN, PASSWORD, SECRET, API_KEY or the like.
    """
    for name, value in os.environ.items():
        if _TELLING.search(name) and len(value) >= _LEAST_CHARACTERS:
            text = text.replace(value, MARK)
    return _IN_ADDRESS.sub(f"//{MARK}@", text)


def holds_password(address: str) -> bool:
    """Return whether an address has a user's name or password in front of its host."""
    return _IN_ADDRESS.search(address) is not None
