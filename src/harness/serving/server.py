"""The server's loop: take requests in, first come, first served, run batches, answer.

It runs on the thread that holds the cell.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from harness.serving.client import FLUSH
from harness.serving.records import Request
from harness.serving.work import NEVER, Work


class Sender(Protocol):
    """Where requests come from."""

    @property
    def verdict(self) -> object | None:
        """Not None once the last request was sent."""

    def read(self, timeout_s: float | None = 0.0) -> list[tuple[int, int, float]]:
        """Return what was sent: (query's number, image or FLUSH, seconds); wait for it at most `timeout_s`."""


class Arrivals:
    """First come, first served. Everything happens on the server's thread."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._waiting: deque[Request] = deque()
        self.flushed = False  # no more of this series will come
        self.closed = False  # the test is over
        self.refusing = False  # arrivals are shed at once

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, most: int) -> list[Request]:
        """Read new arrivals; remove and return the first `most` requests."""
        if len(self._waiting) < most:
            self._read(0.0)
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def refuse(self) -> list[Request]:
        """Accept no further requests; read new arrivals and return all that wait, to be shed."""
        self.refusing = True
        self._read(0.0)
        out = list(self._waiting)
        self._waiting.clear()
        return out

    def wait(self, timeout_s: float | None) -> None:
        """Wait until a request arrives, the queue is flushed or closed, or time is up."""
        if not self._waiting:
            self._read(timeout_s)

    def _read(self, timeout_s: float | None) -> None:
        if self.closed:
            return
        for number, image, issued_s in self._sender.read(timeout_s):
            self.flushed = image == FLUSH
            if not self.flushed:
                self._waiting.append(Request(number, image, issued_s, queued_s=time.perf_counter()))
        if self._sender.verdict is not None:
            self.closed = self.flushed = True


_PR_SET_TIMERSLACK = 29  # prctl(2)


def short_sleeps() -> None:
    """Let this thread's waits end on time (Linux): by default the kernel may extend each by 50 us."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


def serve(
    arrivals: Arrivals, work: Work, answer: Callable[[Sequence[Request]], None], give_up_s: float | None = None
) -> None:
    """Serve until the queue is closed and empty.

    If launching is asynchronous, the next batch is launched before the previous replies are sent; otherwise the device
    idles meanwhile, for a twentieth of a batch of 64 at 13,000 images/s.

    While a batch is in flight this thread polls without sleeping: during a sleep the device would idle.

    A queue whose first request is older than `give_up_s` grows without end: then all waiting and all later requests are
    shed: answered without having been run, `completed_s` left NaN.
    """

    def too_late() -> bool:
        oldest = work.oldest_s()
        return give_up_s is not None and oldest is not None and time.perf_counter() - oldest > give_up_s

    while True:
        if arrivals.refusing:
            answer(arrivals.refuse())
        elif taken := arrivals.take(work.room()):
            work.take_in(taken)
        done = work.answered()
        if done:
            try:
                if work.starts_at_once and not too_late():
                    work.start(arrivals.flushed)
            finally:
                answer(done)
        elif not work.busy:
            if too_late():
                answer([*work.drop(), *arrivals.refuse()])
                continue
            wait_s = work.start(arrivals.flushed)
            if wait_s is None:
                continue
            if arrivals.closed and work.oldest_s() is None and not len(arrivals):
                return
            arrivals.wait(None if wait_s == NEVER else wait_s)
