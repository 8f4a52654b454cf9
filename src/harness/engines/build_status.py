"""What a build says of itself while it runs, to whoever started it; from the builder's process, through its pipe.

An engine calls `attempt` when it starts a compilation and `status` while that goes on; where nobody listens (a build in
the caller's own process, as in tests) both do nothing.
"""

from __future__ import annotations

from collections.abc import Callable

Listener = Callable[[str, str], None]  # "attempt" or "status", and the text

_listener: Listener | None = None


def listen(listener: Listener | None) -> None:
    """Send what this process's builds say to `listener`; None: to nobody."""
    global _listener
    _listener = listener


def attempt(text: str) -> None:
    """Say that a compilation starts, which has the whole of `engine.build_limit_s` for itself."""
    _say("attempt", text)


def status(text: str) -> None:
    """Say where the compilation is."""
    _say("status", text)


def _say(kind: str, text: str) -> None:
    if _listener is not None:
        _listener(kind, text)
