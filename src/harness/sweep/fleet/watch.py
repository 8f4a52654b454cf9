"""What a person sees of jobs that run elsewhere: each quartet's line as soon as the store has its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from harness.tracking import Store
from harness.tracking.client import quietly
from harness.tracking.runs import PARENT_TAG, search

if TYPE_CHECKING:
    from harness.sweep.terminal import TerminalProgress

_EVERY_S = 2.0
_SHARE = 0.05  # of the time at most is spent asking the store
_SLACK_MS = 120_000  # hosts' clocks differ: a quartet may have ended before one that was told already


@contextmanager
def watching(
    store: Store,
    sweep_id: str,
    told: Collection[str],
    progress: TerminalProgress,
    after: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Tell `progress` of every quartet of a sweep that ends while this is open, then call `after`.

    Not of the run ids in `told`.
    """
    seen = dict.fromkeys(told, 0)
    ended = threading.Event()

    def watch() -> None:
        pause_s = _EVERY_S
        while not ended.wait(pause_s):
            began = time.monotonic()
            with suppress(Exception), quietly():  # a store that is away for a moment: the row is told the next time
                _tell(store, sweep_id, seen, progress)
            after()
            pause_s = max(_EVERY_S, (time.monotonic() - began) / _SHARE)

    thread = threading.Thread(target=watch, name="harness-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(Exception), quietly():
            _tell(store, sweep_id, seen, progress)
        after()


def _tell(store: Store, sweep_id: str, seen: dict[str, int], progress: TerminalProgress) -> None:
    since_ms = max(seen.values(), default=0) - _SLACK_MS  # only the newest: a large sweep's answer takes long
    condition = f"tags.`{PARENT_TAG}` = '{sweep_id}' AND attributes.status != 'RUNNING'"
    condition += f" AND attributes.end_time > {max(since_ms, 0)}"
    for run in search(store.client(), [store.experiment_id], condition):
        info = run.info
        if info.run_id in seen or info.end_time is None:
            continue
        seen[info.run_id] = info.end_time
        progress.begin(str(info.run_name))
        reason = None if info.status == "FINISHED" else run.data.tags.get("error", info.status)
        progress.end(reason, seconds=(info.end_time - info.start_time) / 1e3)
