"""What can go wrong by name: a request that is impossible, a cell that did not do what was asked."""

from __future__ import annotations

import re

# colours and cursor movements (ECMA-48), links (OSC 8), and other control characters but tab and line feed
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f]")

_SYSTEMS = ("sqlite3", "psycopg2", "psycopg", "pymysql", "MySQLdb", "urllib3")  # database drivers, connections


class UserError(Exception):
    """A request that can't be carried out: what was wrong, what was found, what would be right.

    One or two lines, no traceback. Before work begins it ends the program with status 2; inside a running
    sweep it fails its quartet with this text as the reason.
    """


class CellError(Exception):
    """A cell that did not do what was asked (a wrong output, a crash, a refusal): its quartet is FAILED."""


def kind_and_first_line(error: BaseException) -> str:
    """Return the type of an error and the first line of what it says: for those that we do not know."""
    return f"{type(error).__name__}: {first_line(error)}"


def plain(text: str) -> str:
    """Return a text without what moves a terminal's cursor, colours it or links: names may come from anybody."""
    return _ESCAPES.sub("", text)


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, with the next one where it ends in a colon; no terminal escapes.

    A remark in brackets before it is not the reason. "no message" where it says nothing.
    """
    lines = [line.strip() for line in plain(str(error)).splitlines() if line.strip()]
    while len(lines) > 1 and lines[0].startswith("(") and lines[0].endswith(")"):
        del lines[0]
    if not lines:
        return "no message"
    return f"{lines[0]} {lines[1]}" if lines[0].endswith(":") and len(lines) > 1 else lines[0]


def root_cause(error: BaseException) -> BaseException:
    """Return the error that `error` was raised from, and so on: of a library that wraps each failure in advice."""
    seen = {id(error)}
    while error.__cause__ is not None and id(error.__cause__) not in seen:
        error = error.__cause__
        seen.add(id(error))
    return error


def of_the_system(error: BaseException) -> BaseException:
    """Return the error of the file system, a connection or a database that libraries have wrapped; else `error` itself.

    MLflow holds SQLAlchemy's, that a driver's (`orig`); requests' holds urllib3's, that a socket's (`reason`).
    """
    found, seen = error, set[int]()
    inner: BaseException | None = None if isinstance(error, UserError | CellError) else error
    while inner is not None and id(inner) not in seen:
        seen.add(id(inner))
        if isinstance(inner, OSError) or type(inner).__module__.partition(".")[0] in _SYSTEMS:
            found = inner
        wrapped = (inner.__cause__, *(getattr(inner, name, None) for name in ("orig", "reason")), *inner.args[:1])
        inner = next((part for part in wrapped if isinstance(part, BaseException)), None)
    return found
