"""What a person sees while a sweep runs: how far it is, and how long it still takes."""

from __future__ import annotations

import io
import math
import threading
import time
from dataclasses import replace

import pytest
from rich.console import Console

from harness.measure.stopping import Standing
from harness.sweep import terminal
from harness.sweep.terminal import TerminalProgress
from harness.system.counts import duration

STANDING = Standing("factor", 1.05, 0.021, "inconclusive", 40)


@pytest.fixture
def clock(monkeypatch):
    """Time stands still until it is set."""
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    return now


def lines(screen):
    return screen.getvalue().splitlines()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (9.4, "9 s"), (44, "40 s"), (100, "2 min"), (3600, "60 min"), (7900, "2 h 10 min")],
)
def test_a_time_to_come_is_as_rough_as_it_is_known(seconds, words):
    assert duration(seconds) == words


def test_blocks_are_reported_once_a_minute_without_a_terminal(clock):
    screen = io.StringIO()
    progress = TerminalProgress(Console(file=screen, width=200), 2)
    progress.begin("2 quartets side by side", 2)
    for clock[0] in range(0, 130, 10):
        progress.block(STANDING, 50.0)
    assert lines(screen) == [
        f"[1/2] 2 quartets side by side: about 50 s left, block 40, factor 1.050 ± 2.1% inconclusive ({at} s)"
        for at in (60, 120)
    ]


def test_a_long_stage_that_says_nothing_is_reported_all_the_same_until_the_end(monkeypatch):
    monkeypatch.setattr(terminal, "LINE_EVERY_S", 0.0)
    monkeypatch.setattr(terminal, "TICK_S", 0.01)
    screen = io.StringIO()
    with TerminalProgress(Console(file=screen, width=200), 1) as progress:
        progress.begin("pruned x fusion", 1)
        progress.stage("build", "combined whole")
        deadline = time.monotonic() + 30
        while len(lines(screen)) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    shown = lines(screen)
    assert len(shown) >= 3
    assert set(shown) == {"[1/1] pruned x fusion: build combined whole (0 s)"}
    assert "a line a minute" not in {thread.name for thread in threading.enumerate()}


def test_of_quartets_side_by_side_the_one_whose_factor_is_shown_is_named(clock):
    screen = io.StringIO()
    progress = TerminalProgress(Console(file=screen, width=200), 3)
    progress.begin("2 quartets side by side", 2)
    for clock[0], name in ((60, "grouped x fp16"), (120, "grouped x fusion")):
        progress.block(replace(STANDING, quartet=name), math.nan)
    progress.begin("pruned x fp16", 1)
    clock[0] = 180
    progress.block(replace(STANDING, quartet="pruned x fp16"), math.nan)
    assert lines(screen) == [
        "[1/3] 2 quartets side by side: grouped x fp16: block 40, factor 1.050 ± 2.1% inconclusive (60 s)",
        "[1/3] 2 quartets side by side: grouped x fusion: block 40, factor 1.050 ± 2.1% inconclusive (120 s)",
        "[1/3] pruned x fp16: block 40, factor 1.050 ± 2.1% inconclusive (60 s)",  # named once
    ]


@pytest.mark.parametrize("half_width", [math.inf, math.nan, 12.0])
def test_before_there_is_an_interval_the_factor_has_none(clock, half_width):
    screen = io.StringIO()
    progress = TerminalProgress(Console(file=screen, width=200), 1)
    progress.begin("pruned x fp16", 1)
    clock[0] = 60
    progress.block(replace(STANDING, half_width=half_width, blocks=1), math.nan)
    assert lines(screen) == ["[1/1] pruned x fp16: block 1, factor 1.050 (60 s)"]


def test_the_time_left_counts_designs_that_have_not_begun_as_long_as_this_one(clock):
    screen = io.StringIO()
    progress = TerminalProgress(Console(file=screen, width=200), 7)
    progress.begin("kept", 1)
    progress.end(None, resumed=True)
    progress.begin("2 quartets side by side", 2)
    clock[0] = 100.0
    progress.block(STANDING, 200.0)  # 300 s for two; four more quartets
    assert "[2/7] 2 quartets side by side: about 13 min left, " in lines(screen)[-1]
    progress.block(STANDING, math.nan)
    clock[0] = 200.0
    progress.stage("log")
    assert "left" not in lines(screen)[-1]


def test_a_terminal_shows_it_all_the_time(clock):
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    progress = TerminalProgress(console, 1)
    progress.begin("grouped x fusion", 1)
    progress.block(STANDING, 30.0)
    with console.capture() as shown:
        console.print(progress._render())
    assert "about 30 s left" in shown.get() and "± 2.1%" in shown.get()


def test_after_the_last_quartet_no_further_one_is_counted(clock):
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    progress = TerminalProgress(console, 2)
    progress.begin("2 quartets side by side", 2)
    for name in ("grouped x fusion", "grouped x fp16"):
        progress.end(None, label=name)
    with console.capture() as shown:
        console.print(progress._render())
    assert "[2/2] 2 quartets" in shown.get()
