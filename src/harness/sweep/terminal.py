"""What a person sees while a sweep runs: where in the grid it is, which stage, how the interval narrows."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from harness.measure.stopping import Standing
from harness.system.counts import counted, duration
from harness.system.secrets import redacted

if TYPE_CHECKING:
    from harness.sweep.refusals import PlannedSweep

VERBATIM: dict[str, Any] = {"highlight": False, "soft_wrap": True, "markup": False}  # a user's names hold no markup
LINE_EVERY_S = 60.0  # where nothing can be drawn
TICK_S = 5.0  # how often it is asked whether a line is due: a stage may be one long build
_MEASURING = "measure"
WIDEST = 10.0  # half an interval of a logarithm: one that is wider says nothing


def announce_plan(console: Console, planned: PlannedSweep) -> None:
    """Say which engine `auto` became and why, and which jobs are left out."""
    auto = planned.engines.get("auto")
    if auto is not None and any(job.plan.engine == auto for job in planned.jobs):
        console.print(f"engine={auto}: {planned.reason}", **VERBATIM)
    if planned.left_out:
        left = sum(entry.jobs for entry in planned.left_out)
        whole = left + len(planned.jobs)
        console.print(
            f"{left} of {counted(whole, 'job')} {'is' if left == 1 else 'are'} left out (on_unsupported=skip):",
            **VERBATIM,
        )
        for entry in planned.left_out:
            console.print(f"  {redacted(entry.text)}", **VERBATIM)


class Lane:
    """What one process does: which quartets it measures, at which stage, how narrow the interval, how much longer."""

    def __init__(self, line_a_minute: Callable[[], None], name: str = "") -> None:
        self.name = name  # of its device, where there are several
        self.label, self.started = "", time.monotonic()
        self.left = 0  # quartets after these
        self._line_a_minute, self._stage, self._together = line_a_minute, "", 1
        self._standing: Standing | None = None
        self._remaining_s = math.nan  # of the quartets that are measured now

    def begin(self, label: str, quartets: int = 0) -> None:
        """A quartet begins, or so many that are measured together; 0: something that is none."""
        self.label, self._stage, self._standing, self._remaining_s = label, "", None, math.nan
        self._together, self.left = max(1, quartets), self.left - quartets
        self.started = time.monotonic()

    def stage(self, name: str, cell: str = "") -> None:
        """A stage begins or makes progress; without a terminal, one line a minute names it."""
        self._stage, self._remaining_s = f"{name} {cell}".strip(), math.nan
        self._line_a_minute()

    def block(self, standing: Standing, remaining_s: float) -> None:
        """A block is complete."""
        self._stage, self._standing, self._remaining_s = _MEASURING, standing, remaining_s
        self._line_a_minute()

    def parts(self) -> list[str]:
        """Return what it does in words."""
        stage = "" if self._standing is not None and self._stage == _MEASURING else self._stage
        return [text for text in (self._time_left(), stage, self._found()) if text]

    def _found(self) -> str:
        """Return how far the newest block's quartet is, by its name where there are several; "" before there is one.

        Before there is an interval, the value stands alone: neither a width nor a verdict could be said of it.
        """
        if self._standing is None:
            return ""
        now = self._standing
        is_named = now.quartet == self.label or self.label.startswith(f"{now.quartet} b")
        name = f"{now.quartet}: " if now.quartet and not is_named else ""
        interval = f" ± {100 * now.half_width:.1f}% {now.verdict or ''}".rstrip() if now.half_width < WIDEST else ""
        return f"{name}block {now.blocks}, {now.kind} {now.value:.3f}{interval}"

    def _time_left(self) -> str:
        """Return how long its share still takes, "" where that can't be told: the others as long as these."""
        if math.isnan(self._remaining_s):
            return ""
        whole_s = time.monotonic() - self.started + self._remaining_s
        left_s = self._remaining_s + max(0, self.left) * whole_s / self._together
        return f"about {duration(left_s)} left"


class TerminalProgress:
    """On a terminal a live line for what is measured; elsewhere a plain line when a quartet ends, and one a minute."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._done = 0
        self.good = 0  # quartets done or kept
        self._here = Lane(self._line_a_minute)
        self._here.left = total
        self._lanes = [self._here]
        self._printed = time.monotonic()
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=4, transient=True)
        self._lock, self._over = threading.RLock(), threading.Event()
        self._clock = threading.Thread(target=self._tick, name="a line a minute", daemon=True)

    def __enter__(self) -> Self:
        """Start to draw, on a terminal; elsewhere to look whether a line is due."""
        if self._console.is_terminal:
            self._live.start()
        else:
            self._clock.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing."""
        self._over.set()
        if self._console.is_terminal:
            self._live.stop()
        elif self._clock.is_alive():
            self._clock.join()

    def lane(self, name: str) -> Lane:
        """Return a further line, of what happens on a device of this name at the same time."""
        self._lanes.append(lane := Lane(self._line_a_minute, name))
        return lane

    def begin(self, label: str, quartets: int = 0) -> None:
        """A quartet begins, or so many that are measured together; 0: something that is none."""
        self._here.begin(label, quartets)
        self._printed = time.monotonic()

    def stage(self, name: str, cell: str = "") -> None:
        """A stage begins or makes progress; without a terminal, one line a minute names it."""
        self._here.stage(name, cell)

    def block(self, standing: Standing, remaining_s: float) -> None:
        """A block is complete."""
        self._here.block(standing, remaining_s)

    def end(self, error: str | None, resumed: bool = False, seconds: float | None = None, label: str = "") -> None:
        """A quartet has ended; `error` is the reason if it failed, `resumed` if it was measured before.

        `seconds` is what it took, where it ran in another process; `label` its own, where it ran beside others.
        """
        seconds = time.monotonic() - self._here.started if seconds is None else seconds
        good = Text("already measured" if resumed else "done", style="green")
        outcome = good if error is None else Text(f"FAILED: {error}", style="red")
        name = label or self._here.label
        with self._lock:  # no line about what has just ended
            self._done += 1
            self.good += error is None
            line = Text(f"[{self._done}/{self._total}] {name}: ").append(outcome).append(f" ({seconds:.0f} s)")
            self._console.print(line, highlight=False, soft_wrap=True)
            if label in ("", self._here.label):
                self._here.label = ""

    def _tick(self) -> None:
        while not self._over.wait(TICK_S):
            self._line_a_minute()

    def _line_a_minute(self) -> None:
        with self._lock:
            now = time.monotonic()
            if self._console.is_terminal or now - self._printed < LINE_EVERY_S:
                return
            self._printed = now
            for shown in self._lanes:
                if shown.label:
                    said = f"{self._head(shown)}: {', '.join(shown.parts())} ({now - shown.started:.0f} s)"
                    self._console.print(said, **VERBATIM)

    def _head(self, lane: Lane) -> str:
        return f"[{min(self._done + 1, self._total)}/{self._total}] {f'{lane.name}, ' if lane.name else ''}{lane.label}"

    def _render(self) -> Table:
        grid = Table.grid(padding=(0, 1))
        for lane in self._lanes:
            if lane.label:
                parts = (self._head(lane), f"{time.monotonic() - lane.started:.0f} s", *lane.parts())
                grid.add_row(Text("  ".join(parts)))
        return grid
