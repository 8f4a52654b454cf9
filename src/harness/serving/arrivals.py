"""The queue of those who have come: what the client sent, in its order."""

from __future__ import annotations

import time
from collections import deque
from typing import Protocol

from harness.serving.client.wire import FLUSH
from harness.serving.queries import Request


class Sender(Protocol):
    """Where requests come from."""

    @property
    def verdict(self) -> object | None:
        """Anything once the last one was sent."""

    def read(self, timeout_s: float | None = 0.0) -> list[tuple[int, int, float]]:
        """Return what was sent: (query's number, image or FLUSH, seconds); wait for it at most `timeout_s`."""


class Arrivals:
    """First come, first served. Everything happens on the server's thread."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._waiting: deque[Request] = deque()
        self.flushed = False  # no more of this series will come
        self.closed = False  # the test is over
        self.refusing = False  # whoever comes is shed at once

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, most: int) -> list[Request]:
        """Look who has come; remove and return the first `most` requests."""
        if len(self._waiting) < most:
            self._look(0.0)
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def refuse(self) -> list[Request]:
        """Take nobody in from now on; look who has come and return all who wait, to be sent away."""
        self.refusing = True
        self._look(0.0)
        out = list(self._waiting)
        self._waiting.clear()
        return out

    def wait(self, timeout_s: float | None) -> None:
        """Wait until somebody comes, or the queue is flushed or closed, or time is up."""
        if not self._waiting:
            self._look(timeout_s)

    def _look(self, timeout_s: float | None) -> None:
        if self.closed:
            return
        for number, image, issued_s in self._sender.read(timeout_s):
            self.flushed = image == FLUSH
            if not self.flushed:
                self._waiting.append(Request(number, image, issued_s, queued_s=time.perf_counter()))
        if self._sender.verdict is not None:
            self.closed = self.flushed = True
