"""How long a server is taken by a batch while the next requests wait: what a queue needs to know of it."""

from __future__ import annotations

import time

import numpy as np

from harness.serving.queries import Request
from harness.serving.work import Work


def batch_times_s(work: Work, size: int, count: int, sample_count: int) -> list[float]:
    """Return seconds from one batch's answers to the next one's, [count], where `size` requests always wait.

    As in the server's loop, the next requests are taken in while a batch is in flight: where their images travel
    beside it, they cost what they cost under load. A network in stages answers in portions, so all its values
    are the mean over `size` answers.
    """
    idle_room = work.room()
    total = (count + 2) * size  # the first one only fills the server, beside the last one nothing is taken in
    come = answered = 0
    ends: list[float] = []
    while answered < total:
        if come < total and work.room() == idle_room:
            now = time.perf_counter()
            work.take_in([Request(number, number % sample_count, now) for number in range(come, come + size)])
            come += size
        done = len(work.answered())
        if done:
            answered += done
            ends += [time.perf_counter()] * (answered // size - len(ends))
        if not work.busy:
            work.start(flush=True)
    spans = np.diff(ends[:-1])
    return [float(span) for span in (spans if (spans > 0).all() else np.full(count, spans.mean()))]
