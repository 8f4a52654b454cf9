"""What all commands have in common: a complaint is one line, and what a request came to is the exit status.

A screen without third-party warnings: a user can do nothing about them.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from harness.system.early import raise_from_here
from harness.system.errors import UserError, plain
from harness.system.secrets import redacted

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
PIPE_CLOSED = 141  # 128 + SIGPIPE, as a shell reports it


class CommandParser(argparse.ArgumentParser):
    """A parser that raises UserError for what it can't read, where argparse prints its usage and exits."""

    def __init__(self, name: str, hint: str = "", **more: Any) -> None:
        """`name`: "harness" or "harness.report"; `hint`: what a complaint ends with instead of where the help is."""
        super().__init__(prog=f"python -m {name}", **more)
        self._hint = hint or f"see {self.prog} --help."

    def error(self, message: str) -> NoReturn:
        """Raise UserError, which `run_command` prints."""
        raise UserError(f"{message}; {self._hint}")


def number(low: float, high: float = math.inf, closed: bool = False) -> Callable[[str], float]:
    """Return the type of an option that is a number above `low` (or at it, if closed) and below `high`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (low < value < high or (closed and value == low)):
            least = "from" if closed else "above"
            most = f" to below {high:g}" if math.isfinite(high) else ""
            raise argparse.ArgumentTypeError(f"{text!r} is not a number {least} {low:g}{most}")
        return value

    return parse


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return the type of an option that is a whole number from `low` to `high`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return value

    return parse


def run_command(name: str, command: Callable[[], int], interrupted: str = "interrupted.") -> int:
    """Return the status of `command()`: 2, and its reason in one or two lines, for UserError; 130 after Ctrl-C."""
    try:
        if threading.current_thread() is threading.main_thread():
            raise_from_here()
        status = command()
        sys.stdout.flush()
        return status
    except UserError as error:
        print(f"{name}: {plain(redacted(str(error)))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if interrupted:
            print(f"{name}: {interrupted}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # who read the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor is the rest written at the end
        return PIPE_CLOSED


def quiet() -> None:
    """Keep other packages' warnings off the screen, in this process and in those that it starts."""
    warnings.filterwarnings("ignore")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")  # worker processes too
    for name in ("torch", "onnxscript", "onnx_ir", "mlflow", "alembic", "matplotlib"):
        logging.getLogger(name).setLevel(logging.ERROR)
