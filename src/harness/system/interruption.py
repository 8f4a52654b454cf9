"""Ctrl-C and SIGTERM: an orderly end if that is quick, an answer within a second in any case, and an end in any case.

The handler raises KeyboardInterrupt in the main thread, which ends quartet and sweep as KILLED. A compiled function may
not let it come up, something may swallow it, a tracking server may be away: so a thread of its own watches. It answers
where nobody else has, and ends the process by force when the grace is over or a second signal comes. Child processes
die with it (`system/processes.py`); what then still stands as running, the next start ends as KILLED.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from types import FrameType, TracebackType
from typing import NoReturn, Self

from harness.system.command import INTERRUPTED
from harness.system.library_internals import resource_tracker_pid

ANSWER_S = 0.7
GRACE_S = 10.0
_NOTICE_S = 0.3  # for the watcher to see a signal that its own handler or another one's has taken


class Interruption:
    """While entered, SIGINT and SIGTERM end the program in order; outside the main thread it does nothing."""

    def __init__(self) -> None:
        self.progress = "finished work is stored."  # how far it got and how to go on; whoever knows more sets it
        self._came = threading.Event()
        self._over = threading.Event()
        self._answered = threading.Event()

    def __enter__(self) -> Self:
        """Take over both signals."""
        self._owns = threading.current_thread() is threading.main_thread()
        if self._owns:
            self._reads, self._writes = socket.socketpair()
            self._writes.setblocking(False)
            self._before = {number: signal.signal(number, _raise) for number in (signal.SIGINT, signal.SIGTERM)}
            self._wakeup = signal.set_wakeup_fd(self._writes.fileno(), warn_on_full_buffer=False)
            threading.Thread(target=self._watch, name="harness-interruption", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        self._over.set()
        if self._owns:
            signal.set_wakeup_fd(self._wakeup)
            for number, handler in self._before.items():
                signal.signal(number, handler)
            self._writes.close()  # ends the watcher

    def answer(self) -> None:
        """Say once that it was interrupted, how far it got and how to go on."""
        if not self._answered.is_set():
            self._answered.set()
            print(f"harness: interrupted: {self.progress}", file=sys.stderr, flush=True)

    def came(self) -> bool:
        """Return whether one of both signals has come, also where somebody else's handler took it."""
        return self._came.wait(_NOTICE_S)

    def _watch(self) -> None:
        if not self._signalled(None):
            return
        self._came.set()
        if self._over.wait(ANSWER_S):
            return
        self.answer()
        deadline = time.monotonic() + GRACE_S
        while not self._over.is_set():
            if self._signalled(0.1) or time.monotonic() >= deadline:
                leave()

    def _signalled(self, timeout_s: float | None) -> bool:
        """Return whether one of both signals came within a time; a closed socket is none."""
        ready, _, _ = select.select([self._reads], [], [], timeout_s)
        return bool(ready) and self._reads.recv(1) in (bytes([signal.SIGINT]), bytes([signal.SIGTERM]))


def leave() -> NoReturn:
    """End this process at once, child processes first: one that still starts would print that its parent is gone."""
    import psutil

    tracker = resource_tracker_pid()  # it tidies up after us and ends by itself
    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            if child.pid != tracker:
                with suppress(psutil.Error):
                    child.kill()
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(INTERRUPTED)


def _raise(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
