"""A build that is watched: which phase it is in, how far, and an end to it where it takes too long.

API: NVIDIA TensorRT documentation, "Python API: Core", IProgressMonitor: called from the builder's threads, about once
a second at least; a step that answers False cancels the build, whose result is then None.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

SHOWN_PHASES = 2
TELL_EVERY_S = 0.5  # a build of DenseNet121 completes 130,000 steps


class BuildWatch:
    """The phases of one build, its outermost first; thread-safe."""

    def __init__(
        self, tell: Callable[[str], None], limit_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`tell` takes the text of where the build is; `limit_s` is counted from now."""
        self._tell = tell
        self._limit_s = limit_s
        self._clock = clock
        self._started = self._told = clock()
        self._lock = threading.Lock()
        self._phases: dict[str, list[int]] = {}  # name -> steps completed, of how many; in the order they were entered
        self.cancelled = False  # it passed its limit

    def phase_start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins, inside `parent` if there is one."""
        with self._lock:
            self._phases[name] = [0, steps]

    def step_complete(self, name: str, step: int) -> bool:
        """A step is over; return whether the build shall go on."""
        now = self._clock()
        with self._lock:
            if name in self._phases:
                self._phases[name][0] = step + 1
            self.cancelled = self.cancelled or now - self._started > self._limit_s
            due = now - self._told >= TELL_EVERY_S
            if due:
                self._told = now
                text = self._where()
        if due:
            self._tell(text)
        return not self.cancelled

    def phase_finish(self, name: str) -> None:
        """A phase is over; also one that was cancelled."""
        with self._lock:
            self._phases.pop(name, None)

    def _where(self) -> str:
        """Return the outermost phases that have steps to count, e.g. "Timing graph nodes 57 of 371".

        What is further inside ("Measuring tactic time 1 of 4") begins anew many times a second.
        """
        counted = [f"{name} {min(done, steps)} of {steps}" for name, (done, steps) in self._phases.items() if steps > 1]
        return ", ".join(counted[:SHOWN_PHASES]) or next(iter(self._phases), "")


def monitor_of(trt: Any, watch: BuildWatch) -> Any:
    """Return the `IProgressMonitor` that reports to `watch`; it must outlive the builder that it is given to."""
    base: Any = trt.IProgressMonitor

    class Monitor(base):  # type: ignore[misc]  # a class that is known once TensorRT is loaded
        def __init__(self) -> None:
            base.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            watch.phase_start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return watch.step_complete(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            watch.phase_finish(phase_name)

    return Monitor()
