"""What ends in other processes is told once, with its reason, whoever watches late or asks often."""

from __future__ import annotations

import io

from rich.console import Console

from harness.sweep.fleet import watching
from harness.sweep.terminal import TerminalProgress
from harness.tracking import finish, start_quartet, start_sweep


def test_each_quartet_that_ends_elsewhere_is_told_once(store, monkeypatch):
    monkeypatch.setattr("harness.sweep.fleet._EVERY_S", 0.01)
    sweep = start_sweep(store, "s", {}, {})
    kept, good, bad, running = (start_quartet(store, sweep, name, {}, {}) for name in ("kept", "good", "bad", "open"))
    finish(store, kept, "FINISHED")
    screen = io.StringIO()
    counts = []
    with (
        TerminalProgress(Console(file=screen, width=100), 4) as progress,
        watching(store, sweep, [kept], progress, lambda: counts.append(progress.good)),
    ):
        finish(store, good, "FINISHED")
        finish(store, bad, "FAILED", "no memory")
    lines = screen.getvalue().splitlines()
    assert sorted(line.split("] ")[1].rpartition(" (")[0] for line in lines) == ["bad: FAILED: no memory", "good: done"]
    assert running not in screen.getvalue()
    assert counts[-1] == 1  # whoever is interrupted is told how many are good
