"""Somebody else's code in our process: whatever it raises, or however it ends, is reported with its file and line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType

from harness.config import packages
from harness.config.sources import is_source
from harness.system.errors import UserError, first_line

_MOST = 180  # characters of what an error says


@contextmanager
def reported(doing: str) -> Iterator[None]:
    """Turn what the code inside raises into a UserError, "`doing`: reason (file:line)"; a UserError passes as it is."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # somebody else's code may raise anything
        raise UserError(f"{doing}: {reason(error)}") from error


def of_another_package(group: str, name: str, doing: str) -> AbstractContextManager[None]:
    """Report what a technique, an engine or a scenario of another package raises under its name.

    What ours raises passes as it is: that is our bug.
    """
    if name in packages.ours(group):
        return nullcontext()
    return reported(f"{packages.described(group, name)}: its {doing} fails")


@contextmanager
def alone_on_the_command_line(program: str) -> Iterator[None]:
    """Let code inside see `program` without arguments in `sys.argv`: ours are not meant for its parser."""
    before = sys.argv
    sys.argv = [program]
    try:
        yield
    finally:
        sys.argv = before


def reason(error: BaseException) -> str:
    """Return an error's kind, the first line of what it says, and where in somebody's own source it came from."""
    said = f"{type(error).__name__}: {first_line(error)[:_MOST]}"
    if isinstance(error, SystemExit):
        said = f"SystemExit: it ends the program with {error.code!r}"
    place = origin(error)
    return f"{said} ({place})" if place else said


def origin(error: BaseException) -> str:
    """Return file:line of the innermost frame of somebody's own source, "" where the error met none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}"
    place, step = "", error.__traceback__
    while step is not None:
        if _is_own(step):
            place = f"{Path(step.tb_frame.f_code.co_filename).name}:{step.tb_lineno}"
        step = step.tb_next
    return place


def _is_own(step: TracebackType) -> bool:
    name = str(step.tb_frame.f_globals.get("__name__", ""))
    return not step.tb_frame.f_code.co_filename.startswith("<") and bool(name) and is_source(name)
