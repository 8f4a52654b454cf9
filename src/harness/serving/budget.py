"""How many sets of processes there is time for: another one only if it would be over in time, as the longest was.

Decided by the clock, never by a rate or a factor, so that stopping favours no result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator


def restarts_within(budget_s: float | None, restarts: int, now: Callable[[], float] = time.monotonic) -> Iterator[int]:
    """Yield 0, 1, ... below `restarts`, the first in any case; `budget_s` counts from here on, None: all of them."""
    began = last = now()
    longest_s = 0.0
    for restart in range(restarts):
        if restart:
            longest_s, last = max(longest_s, now() - last), now()
            if budget_s is not None and last - began + longest_s > budget_s:
                return
        yield restart


def shortened(done: int, restarts: int, budget_s: float | None) -> str:
    """Return what a reader must know of sets that were left out; "" if there are none."""
    return f"{done} of {restarts} sets of processes: scenario.budget_s={budget_s:g}" if done < restarts else ""
