"""What TensorRT says while it works: kept instead of printed, so that an error can quote the reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from harness.engines.tensorrt.flavour import Flavour

# "... In compileGraph at /_src/optimizer/x.cpp:2012)" and "[pass.cpp:337: name] " are for NVIDIA's developers.
_SOURCE_TAIL = re.compile(r"\.?\s*In \S+ at /_src/\S+?:\d+\)?")
_CALL_HEAD = re.compile(r"^(\[?[\w:.]+\]?: )?Error Code \d+: ")
_PLACE = re.compile(r"\[[\w.]+:\d+: \w+\] ")


class Messages:
    """Errors of one package, delivered to whoever is watching at the time."""

    def __init__(self) -> None:
        self._watchers: list[list[str]] = []

    def add(self, severity: str, text: str) -> None:
        """Take one message (called from any of TensorRT's threads)."""
        if severity in ("ERROR", "INTERNAL_ERROR"):
            for watcher in self._watchers:
                watcher.append(text)

    @contextmanager
    def watch(self) -> Iterator[list[str]]:
        """Yield a list that fills with the error messages of the time inside."""
        seen: list[str] = []
        self._watchers.append(seen)
        try:
            yield seen
        finally:
            self._watchers = [watcher for watcher in self._watchers if watcher is not seen]


def tail(seen: list[str], lines: int = 2) -> str:
    """Return the last `lines` distinct messages on one line, without the names of NVIDIA's source files."""
    cleaned = [_clean(text) for text in seen if "catchCudaError" not in text.split("]")[0]]
    distinct = list(dict.fromkeys(text for text in cleaned if text))
    return "; ".join(distinct[-lines:]) or "it gave no reason"


def _clean(text: str) -> str:
    line = " ".join(text.split())
    line = _PLACE.sub("", _CALL_HEAD.sub("", _SOURCE_TAIL.sub("", line)))
    inner = re.fullmatch(r"[\w ]+ \((.+)", line)  # "Myelin (reason": the bracket closed in the cut tail
    line = inner.group(1) if inner else line
    return line.rstrip(") ." if line.count(")") > line.count("(") else " .")


@cache
def logger_of(flavour: Flavour) -> tuple[Any, Messages]:
    """Return the process's one logger for this package, and where its messages go.

    One for the life of the process, because TensorRT keeps the first logger that it is given, ignores later ones
    while any builder, runtime or engine lives, and crashes if that one is freed earlier ("How TensorRT
    Works", Error Handling and Logging).
    """
    trt = flavour.module()
    messages = Messages()
    base: Any = trt.ILogger

    class Logger(base):  # type: ignore[misc]  # a class that is known once TensorRT is loaded
        def __init__(self) -> None:
            base.__init__(self)  # the documented way: super() does not reach the C++ part

        def log(self, severity: Any, text: str) -> None:
            messages.add(severity.name, text)

    return Logger(), messages
