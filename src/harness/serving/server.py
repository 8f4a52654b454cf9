"""The server's loop: take requests in, run batches, answer; it runs on the thread that holds the cell."""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable, Sequence

from harness.serving.arrivals import Arrivals
from harness.serving.queries import Request
from harness.serving.work import NEVER, Work

_PR_SET_TIMERSLACK = 29  # prctl(2)


def short_sleeps() -> None:
    """Let waits of this thread end when they are over (Linux): the kernel may let one last 50 us longer."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


def serve(
    arrivals: Arrivals, work: Work, answer: Callable[[Sequence[Request]], None], give_up_s: float | None = None
) -> None:
    """Serve until the queue is closed and empty.

    Where to start a batch takes no time, the next one is started before the last one's answers go out: else the device
    idles for as long as those take, a twentieth of a batch of 64 at 13,000 images/s.

    While a batch is in flight this thread looks again and again, without a rest: after one the device would idle.

    A queue whose first request is older than `give_up_s` grows without end: then everybody who waits, and everybody
    who comes later, is shed: answered without having been run, `completed_s` left NaN.
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
