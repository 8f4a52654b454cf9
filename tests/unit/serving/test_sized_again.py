"""A test that was sized by batches timed in a slow moment, and so ended too soon."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from harness.serving.client import LoadTest
from harness.serving.measure import Repeat, sized_again
from harness.serving.requests import SIZES_TRIED, resized

TEST = LoadTest("offline", expected_per_s=100.0, min_duration_s=0.3)


class FastServer:
    """A handle whose server does `per_s`: it ends too soon whatever was made for a slower one."""

    def __init__(self, per_s: float) -> None:
        self.per_s = per_s

    def ask(self, command, argument, timeout_s):
        assert command == "load_test"
        _, test = argument
        short = test.expected_per_s < self.per_s
        reason = "shorter than min_duration_s=0.3" if short else ""
        return SimpleNamespace(test=test, completed_per_s=self.per_s, too_short=short, reason=reason)


def measured(per_s):
    server = FastServer(per_s)
    return sized_again(server, ("plan", TEST), server.ask("load_test", ("plan", TEST), 1.0), 1.0)


def test_one_test_is_enough_where_it_lasts():
    assert [result.test for result in measured(90.0)] == [TEST]


@pytest.mark.parametrize("per_s", [110.0, 5000.0])
def test_the_next_one_is_sized_by_what_the_server_did_and_decides(per_s):
    results = measured(per_s)
    assert [result.too_short for result in results] == [True, False]
    repeat = Repeat(0, results, results[-1].completed_per_s)
    assert repeat.deciding is results[-1]
    assert repeat.problem == ""


def test_a_server_that_grows_ever_faster_is_not_followed_for_ever():
    class Growing(FastServer):
        def ask(self, command, argument, timeout_s):
            self.per_s *= 2
            return super().ask(command, argument, timeout_s)

    server = Growing(1000.0)
    results = sized_again(server, ("plan", TEST), server.ask("load_test", ("plan", TEST), 1.0), 1.0)
    assert len(results) == SIZES_TRIED
    assert Repeat(0, results, 1.0).problem == "shorter than min_duration_s=0.3"


def test_a_test_never_shrinks():
    slower = SimpleNamespace(completed_per_s=1.0)
    assert resized(TEST, slower).expected_per_s > TEST.expected_per_s
