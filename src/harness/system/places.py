"""Other people's code in our process: it may change folder and environment for itself alone, and can't end us."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

# which store, cache, locks, temporary files and devices are ours to use
_OURS = re.compile(r"(HARNESS|MLFLOW)_\w+|CUDA_VISIBLE_DEVICES|CUDA_DEVICE_ORDER|TMPDIR|TEMP|TMP")


class HardExit(SystemExit):
    """Somebody else's code called os._exit, which would have ended this process without a word."""


class _Guest:
    """Where somebody else's code works, and whether it runs now."""

    moved: tuple[str | None, str | None] | None = None  # from our folder to its own; None: it works in ours
    here = False


@contextmanager
def restored_places() -> Iterator[None]:
    """Run somebody else's code: on the way out the current folder and the variables of `_OURS` are what they were.

    A folder that the code has moved to is its own again when it runs the next time, unless we have moved meanwhile (a
    notebook's next cell may). Its os._exit raises HardExit.
    """
    if _Guest.here:  # one part of it calls another through us
        yield
        return
    ours, variables = _current_folder(), _our_variables()
    _Guest.here = True
    try:
        if _Guest.moved is not None and _Guest.moved[0] == ours and _Guest.moved[1] is not None:
            with suppress(OSError):
                os.chdir(_Guest.moved[1])
        with _kept_alive():
            yield
    finally:
        _Guest.here = False
        now = _current_folder()
        _Guest.moved = (ours, now) if now != ours else None
        if ours is not None and now != ours:
            os.chdir(ours)
        for name in _our_variables().keys() - variables.keys():
            del os.environ[name]
        os.environ.update(variables)


@contextmanager
def _kept_alive() -> Iterator[None]:
    """Let os._exit raise HardExit in this thread; our own threads, and processes that are forked here, still end."""
    end, process, thread = os._exit, os.getpid(), threading.get_ident()

    def refuse(status: int) -> NoReturn:
        if os.getpid() == process and threading.get_ident() == thread:
            raise HardExit(status)
        end(status)

    os._exit = refuse
    try:
        yield
    finally:
        os._exit = end


def absolute(path: str) -> str:
    """Return a path as it is from any folder; `~` is the user's home."""
    return str(Path(path).expanduser().absolute())


def _current_folder() -> str | None:
    with suppress(OSError):  # it was removed
        return os.getcwd()
    return None


def _our_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if _OURS.fullmatch(name)}
