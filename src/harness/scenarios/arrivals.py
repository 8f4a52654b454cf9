"""The queue between LoadGen's thread and the thread that holds the cell."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

from harness.scenarios.queries import Request


class Arrivals:
    """First come, first served. LoadGen's thread puts, one server takes."""

    def __init__(self) -> None:
        self._waiting: deque[Request] = deque()
        self._changed = threading.Condition()
        self.flushed = False  # no more of this series will come
        self.closed = False  # the test is over
        self.refusing = False  # whoever comes is shed at once

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, requests: Sequence[Request]) -> list[Request]:
        """Add requests; return those that are refused."""
        with self._changed:
            if self.refusing:
                return list(requests)
            now = time.perf_counter()
            for request in requests:
                request.queued_s = now
            self._waiting.extend(requests)
            self.flushed = False
            self._changed.notify()
        return []

    def take(self, most: int) -> list[Request]:
        """Remove and return the first `most` requests."""
        with self._changed:
            return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def refuse(self) -> list[Request]:
        """Take nobody in from now on; return all who wait."""
        with self._changed:
            self.refusing = True
            out = list(self._waiting)
            self._waiting.clear()
            return out

    def flush(self) -> None:
        """Say that the series is complete: waiting for others to join a batch is in vain."""
        with self._changed:
            self.flushed = True
            self._changed.notify()

    def close(self) -> None:
        """Say that the test is over."""
        with self._changed:
            self.closed = self.flushed = True
            self._changed.notify()

    def wait(self, timeout_s: float | None) -> None:
        """Wait until somebody is there, or the queue is flushed or closed, or time is up."""
        with self._changed:
            flushed = self.flushed
            self._changed.wait_for(lambda: self._waiting or self.closed or self.flushed != flushed, timeout_s)
