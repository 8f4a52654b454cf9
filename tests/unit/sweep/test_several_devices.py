"""A sweep on several devices, seen from its own process: places are threads here that answer as processes do."""

from __future__ import annotations

import io
import multiprocessing
import threading
from types import SimpleNamespace

import pytest
from rich.console import Console

from harness.measure.stopping import Standing
from harness.sweep import spread as module
from harness.sweep import terminal
from harness.sweep.job import PlannedJob
from harness.tracking import Store
from harness.tracking.outbox import outbox_of


def well_behaved(channel, number):
    """Come up, prepare in two stages, measure a block, end every quartet."""
    designs = {}
    channel.send(("here", f"GPU-{number}"))
    while True:
        try:
            word, design, *values = channel.recv()
        except EOFError:
            return
        if word == "prepare":
            designs[design] = values[0]
            channel.send(("stage", "assemble", "baseline"))
            channel.send(("prepared", design))
        else:
            channel.send(("begin", design))
            channel.send(("block", Standing("factor", 1.0, 0.02, "independent", 10), 5.0))
            for index in range(len(designs[design].jobs)):
                channel.send(("ended", design, index, None))


@pytest.fixture
def swept_over(planned, monkeypatch, tmp_path):
    """Return a function: swept_over(place, place) -> the lines of a sweep of four quartets over such places."""

    def sweep(*places):
        monkeypatch.setattr(terminal, "LINE_EVERY_S", -1.0)  # each stage is a line
        screen = io.StringIO()
        console = Console(file=screen, width=200)
        jobs = [
            PlannedJob(planned("hw=fusion", f"arch={arch}", f"batch_size={size}"), "")
            for size in (1, 2)
            for arch in ("grouped", "low_rank")
        ]
        progress = terminal.TerminalProgress(console, len(jobs))
        progress.begin("the sweep")
        outbox = outbox_of(Store(f"sqlite:///{tmp_path}/mlflow.db", "test", "test", tmp_path), tmp_path)
        running = module.Spread("sweep", outbox, progress, console.print, lambda: None)

        def start(number, name, device, count, ends):
            ours, theirs = multiprocessing.Pipe()
            threading.Thread(target=places[number], args=(theirs, number), daemon=True).start()
            process = SimpleNamespace(is_alive=lambda: False, join=lambda limit_s: None, exitcode=-9)
            place = module._Place(f"GPU {number}", process, ours, progress.lane(f"GPU {number}"))
            ends.callback(ours.close)
            return place

        monkeypatch.setattr(running, "_start", start)
        running.measure(jobs, len(jobs), ["0", "1"][: len(places)])
        return screen.getvalue().splitlines()

    return sweep


def test_each_device_shows_what_it_prepares_and_what_it_measures(swept_over):
    lines = swept_over(well_behaved, well_behaved)
    for number in (0, 1):
        own = [line for line in lines if f"GPU {number}, " in line]
        assert any("prepare 2 quartets: assemble baseline" in line for line in own), lines
        assert any("prepare 2 quartets: ready" in line for line in own), lines
        assert any("2 quartets side by side: " in line and "block " in line for line in own), lines
        ended = [line for line in lines if f"on GPU {number}: done" in line]
        assert len(ended) == 2
    first = next(number for number, line in enumerate(lines) if "prepare" in line)
    assert any("the sweep: look at 2 devices" in line for line in lines[:first])
    assert not any("the sweep" in line for line in lines[first:])


def test_places_share_the_cores(monkeypatch):
    import torch

    before = torch.get_num_threads()
    monkeypatch.setattr(module, "usable_cores", lambda: 6)
    try:
        module._share_cores(2)
        assert torch.get_num_threads() == 3
        module._share_cores(8)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
