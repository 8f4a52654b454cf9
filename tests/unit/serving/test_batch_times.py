"""What a batch takes a server that is never without work: the images of the next one move while it runs."""

from __future__ import annotations

import pytest

from harness.serving import work
from harness.serving.records import Request
from harness.serving.work import batch_times_s

COPY_S, BATCH_S, LOOK_S = 1.0, 10.0, 0.001


class Clock:
    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Device:
    """A batch takes 10 s a request; taking one in takes 1 s, and goes on beside a batch where `overlaps`."""

    def __init__(self, clock: Clock, overlaps: bool) -> None:
        self.clock, self.overlaps = clock, overlaps
        self.waiting: list[Request] = []
        self.batch: list[Request] = []
        self.sizes: list[int] = []
        self.until = self.copied = 0.0
        self.busy = False

    def room(self) -> int:
        return 8 - len(self.waiting)

    def take_in(self, requests) -> None:
        self.waiting += requests
        self.copied = max(self.copied, self.clock.now) + COPY_S * len(requests)
        if not self.overlaps:
            self.clock.now += COPY_S * len(requests)
            self.until += COPY_S * len(requests)  # the batch in flight stands as long

    def start(self, flush: bool) -> float | None:
        assert flush
        if not self.waiting:
            return float("inf")
        self.sizes.append(len(self.waiting))
        self.batch, self.waiting = self.waiting, []
        self.until, self.busy = max(self.clock.now, self.copied) + BATCH_S * len(self.batch), True
        return None

    def answered(self) -> list[Request]:
        self.clock.now += LOOK_S
        if not self.busy or self.clock.now < self.until:
            return []
        done, self.batch, self.busy = self.batch, [], False
        return done


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(work, "time", clock)
    return clock


@pytest.mark.parametrize(("overlaps", "expected_s"), [(True, 40.0), (False, 44.0)])
def test_what_goes_on_beside_a_batch_is_not_counted(clock, overlaps, expected_s):
    device = Device(clock, overlaps)
    assert batch_times_s(device, 4, 3, 64) == pytest.approx([expected_s] * 3, abs=0.01)
    assert device.sizes == [4] * 5


def test_nobody_is_left_inside(clock):
    device = Device(clock, True)
    batch_times_s(device, 8, 2, 64)
    assert (device.waiting, device.batch, device.busy) == ([], [], False)


def test_where_answers_come_in_portions_every_value_is_the_mean_and_none_is_zero(clock):
    device = Device(clock, True)
    device.answered = late(device)
    assert batch_times_s(device, 4, 2, 64) == pytest.approx([40.0] * 2, abs=0.02)


def late(device):
    """Keep the answers of two batches and give them together: as a second stage does for the survivors of several."""
    kept: list[Request] = []
    inner = Device.answered

    def answered() -> list[Request]:
        kept.extend(inner(device))
        if len(kept) < 8:
            return []
        out, kept[:] = list(kept), []
        return out

    return answered
