"""What a person sees while a sweep runs: where in the grid it is, which stage, how the interval narrows."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from harness.measure.stopping import Standing
from harness.system.counts import counted
from harness.system.secrets import redacted

if TYPE_CHECKING:
    from harness.sweep.refusals import PlannedSweep

VERBATIM: dict[str, Any] = {"highlight": False, "soft_wrap": True, "markup": False}  # a user's names hold no markup
LINE_EVERY_S = 60.0  # where nothing can be drawn


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


class TerminalProgress:
    """On a terminal a live line for each quartet; elsewhere one plain line when a quartet ends."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._done = 0
        self.good = 0  # quartets done or kept
        self._label = ""
        self._stage = ""
        self._standing: Standing | None = None
        self._started = self._printed = time.monotonic()
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        """Start to draw, on a terminal."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing."""
        if self._console.is_terminal:
            self._live.stop()

    def begin(self, label: str) -> None:
        """A quartet begins."""
        self._label, self._stage, self._standing = label, "", None
        self._started = self._printed = time.monotonic()

    def stage(self, name: str, cell: str = "") -> None:
        """A stage begins or makes progress; without a terminal, one line a minute names it."""
        self._stage = f"{name} {cell}".strip()
        now = time.monotonic()
        if not self._console.is_terminal and now - self._printed >= LINE_EVERY_S:
            self._printed = now
            line = f"[{self._done + 1}/{self._total}] {self._label}: {self._stage} ({now - self._started:.0f} s)"
            self._console.print(line, **VERBATIM)

    def block(self, standing: Standing) -> None:
        """A block is complete."""
        self._stage, self._standing = "measure", standing

    def end(self, error: str | None, resumed: bool = False, seconds: float | None = None, label: str = "") -> None:
        """A quartet has ended; `error` is the reason if it failed, `resumed` if it was measured before.

        `seconds` is what it took, where it ran in another process; `label` its own, where it ran beside others.
        """
        self._done += 1
        self.good += error is None
        seconds = time.monotonic() - self._started if seconds is None else seconds
        good = Text("already measured" if resumed else "done", style="green")
        outcome = good if error is None else Text(f"FAILED: {error}", style="red")
        line = (
            Text(f"[{self._done}/{self._total}] {label or self._label}: ").append(outcome).append(f" ({seconds:.0f} s)")
        )
        self._console.print(line, highlight=False, soft_wrap=True)
        if label in ("", self._label):
            self._label = ""

    def _render(self) -> Table:
        grid = Table.grid(padding=(0, 1))
        if not self._label:
            return grid
        seconds = time.monotonic() - self._started
        parts = [f"[{self._done + 1}/{self._total}]", self._label, f"{seconds:.0f} s", self._stage]
        if self._standing is not None:
            now = self._standing
            half = f"± {100 * now.half_width:.1f}%" if now.half_width < 10 else "± ?"
            parts.append(f"block {now.blocks}, {now.kind} {now.value:.3f} {half} {now.verdict or ''}")
        grid.add_row(*(Text(part) for part in parts))
        return grid
