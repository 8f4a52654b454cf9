"""What can go wrong by name: a request that is impossible, a cell that did not do what was asked."""

from __future__ import annotations


class UserError(Exception):
    """A request that can't be carried out: what was wrong, what was found, what would be right.

    One or two lines, no traceback. Before work begins it ends the program with status 2; inside a running
    sweep it fails its quartet with this text as the reason.
    """


class CellError(Exception):
    """A cell that did not do what was asked (a wrong output, a crash, a refusal): its quartet is FAILED."""


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says; "no message" where it says nothing."""
    return next(iter(str(error).strip().splitlines()), "no message")
