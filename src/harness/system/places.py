"""Our places stay where they were: somebody else's code may change the folder or the environment, for itself alone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# which store, cache, locks, temporary files and devices are ours to use
_OURS = re.compile(r"(HARNESS|MLFLOW)_\w+|CUDA_VISIBLE_DEVICES|CUDA_DEVICE_ORDER|TMPDIR|TEMP|TMP")


class _Guest:
    """Where somebody else's code works, and whether it runs now."""

    folder: str | None = None  # that it has moved to; None: ours
    here = False


@contextmanager
def restored_places() -> Iterator[None]:
    """Run somebody else's code: on the way out the current folder and the variables of `_OURS` are what they were.

    A folder that the code has moved to is its own again when it runs the next time.
    """
    if _Guest.here:  # one part of it calls another through us
        yield
        return
    ours, variables = _current_folder(), _our_variables()
    _Guest.here = True
    try:
        if _Guest.folder is not None:
            with suppress(OSError):
                os.chdir(_Guest.folder)
        yield
    finally:
        _Guest.here = False
        now = _current_folder()
        _Guest.folder = now if now != ours else None
        if ours is not None and now != ours:
            os.chdir(ours)
        for name in _our_variables().keys() - variables.keys():
            del os.environ[name]
        os.environ.update(variables)


def absolute(path: str) -> str:
    """Return a path as it is from any folder; `~` is the user's home."""
    return str(Path(path).expanduser().absolute())


def _current_folder() -> str | None:
    with suppress(OSError):  # it was removed
        return os.getcwd()
    return None


def _our_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if _OURS.fullmatch(name)}
