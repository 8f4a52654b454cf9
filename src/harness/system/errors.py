"""What can go wrong by name: a request that is impossible, a cell that did not do what was asked."""

from __future__ import annotations


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


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says; "no message" where it says nothing."""
    return next(iter(str(error).strip().splitlines()), "no message")
