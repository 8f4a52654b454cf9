"""The server's loop: what it does in which order, and that nobody is left without an answer."""

from __future__ import annotations

import time

import pytest

from harness.serving.client import FLUSH
from harness.serving.loadgen import Arrivals, serve
from harness.serving.records import Request
from harness.serving.work import NEVER


class Batches:
    """One request a batch, done at the next look; it tells what was asked of it, in order."""

    def __init__(self, starts_at_once: bool, breaks_at: int | None = None) -> None:
        self.starts_at_once, self.breaks_at = starts_at_once, breaks_at
        self.log: list[str] = []
        self.waiting: list[Request] = []
        self.batch: list[Request] = []
        self.busy = False

    def room(self) -> int:
        return 8

    def take_in(self, requests) -> None:
        self.waiting += requests

    def start(self, flush: bool) -> float | None:
        if not self.waiting:
            return NEVER
        number = self.waiting[0].query_id
        if number == self.breaks_at:
            raise RuntimeError("out of memory")
        self.log.append(f"start {number}")
        self.batch, self.waiting, self.busy = self.waiting[:1], self.waiting[1:], True
        return None

    def answered(self) -> list[Request]:
        done, self.batch, self.busy = self.batch, [], False
        return done

    def oldest_s(self) -> float | None:
        return self.waiting[0].issued_s if self.waiting else None


class Sent:
    """All requests of a test, there from the start."""

    def __init__(self, *messages: tuple[int, int, float]) -> None:
        self.messages, self.verdict = list(messages), None

    def read(self, timeout_s: float | None = 0.0) -> list[tuple[int, int, float]]:
        out, self.messages, self.verdict = self.messages, [], "over"
        return out


def arrivals_of(*messages: tuple[int, int, float]) -> Arrivals:
    return Arrivals(Sent(*messages))


def served(work: Batches) -> list[str]:
    """Serve three requests that are there from the start; return what happened."""
    arrivals = arrivals_of(*((number, number, 0.0) for number in range(3)))
    serve(arrivals, work, lambda done: work.log.extend(f"answer {one.query_id}" for one in done))
    return work.log


def test_where_a_start_takes_no_time_the_device_goes_on_while_answers_go_out():
    assert served(Batches(True)) == ["start 0", "start 1", "answer 0", "start 2", "answer 1", "answer 2"]


def test_where_a_start_takes_time_nobody_waits_for_the_next_batchs():
    assert served(Batches(False)) == ["start 0", "answer 0", "start 1", "answer 1", "start 2", "answer 2"]


def test_a_batch_that_can_not_be_started_costs_the_last_one_no_answer():
    work = Batches(True, breaks_at=1)
    with pytest.raises(RuntimeError, match="out of memory"):
        served(work)
    assert work.log == ["start 0", "answer 0"]


def test_a_flush_lasts_until_somebody_comes():
    assert not flushed_after((0, 0, 0.0), (0, FLUSH, 0.0), (1, 1, 0.0))
    assert flushed_after((0, 0, 0.0), (0, FLUSH, 0.0))


def flushed_after(*messages) -> bool:
    sender = Sent(*messages)
    sender.read = lambda _: messages
    arrivals = Arrivals(sender)
    arrivals.take(1)
    return arrivals.flushed


def test_who_waits_and_who_comes_later_is_sent_away_once_nobody_is_taken_in():
    arrivals = arrivals_of((7, 0, 0.0), (8, 1, 0.0))
    assert [one.query_id for one in arrivals.take(1)] == [7]
    assert [one.query_id for one in arrivals.refuse()] == [8]
    assert arrivals.refusing
    assert (len(arrivals), arrivals.refuse()) == (0, [])


@pytest.mark.parametrize("starts_at_once", [False, True])
def test_once_the_queue_only_grows_everybody_who_comes_is_sent_away_and_nobody_is_run(starts_at_once):
    """The second and the third come when the first is too old already."""
    sender = Sent()
    later = [[(0, 0, 0.0)], [(1, 1, 0.0)], [], [(2, 2, time.perf_counter() + 1e6)]]  # the last one has not waited

    def read(timeout_s: float | None = 0.0) -> list[tuple[int, int, float]]:
        if not later:
            sender.verdict = "over"
            return []
        return later.pop(0)

    sender.read = read
    work = Batches(starts_at_once)
    work.drop = lambda: [work.waiting.pop() for _ in range(len(work.waiting))]
    serve(Arrivals(sender), work, lambda done: work.log.extend(f"answer {one.query_id}" for one in done), give_up_s=1.0)
    assert work.log == ["answer 0", "answer 1", "answer 2"]


def test_a_server_that_never_idles_gives_up_as_well():
    """The first batch is run, and when it is done the second request is too old: what starts at once must not."""
    now = time.perf_counter()
    work = Batches(True)
    work.drop = lambda: [work.waiting.pop() for _ in range(len(work.waiting))]
    serve(
        arrivals_of((0, 0, now), (1, 1, now - 10.0), (2, 2, now - 10.0)),
        work,
        lambda done: work.log.extend(f"answer {one.query_id}" for one in done),
        give_up_s=1.0,
    )
    assert work.log == ["start 0", "answer 0", "answer 2", "answer 1"]
