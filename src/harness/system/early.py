"""Ctrl-C while a command still imports its modules: one line and status 130, for nothing has been begun."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

_INTERRUPTED = 130  # as in `command.py`, which takes longer to import


def answer_early() -> None:
    """Let SIGINT and SIGTERM end this process with one line until `raise_from_here`: the first thing a command does."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)


def raise_from_here() -> None:
    """Let SIGINT raise KeyboardInterrupt again, and SIGTERM end the process, where `answer_early` was called."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) is _end:
            signal.signal(number, handler)


def ignore_from_here() -> None:
    """Ignore SIGINT and SIGTERM: the work is done and its status known; nothing is left but to end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _end(number: int, frame: FrameType | None) -> None:
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"harness: interrupted: nothing was begun.\n")
    os._exit(_INTERRUPTED)
