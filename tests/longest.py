"""No test of the default run is long: `--longest 15`, in seconds, which `make test LONGEST=15` asks for.

A clock would fail a test because the machine was busy. So what fails one is more CPU time, its child processes'
included, than two cores have to give in that while, and half as much again, for cores that others use as well are slow
ones. What took longer by the clock, for whatever reason, is named at the end. What is made once for several tests is
not counted to the first of them.
"""

from __future__ import annotations

import os
import time

import pytest

CORES, SLACK = 2, 1.5
BEGAN = pytest.StashKey[tuple[float, float]]()  # of a test, moved on by what it made for others too
MAKING = pytest.StashKey[bool]()


def pytest_addoption(parser) -> None:
    parser.addoption("--longest", type=float, metavar="SECONDS", help="fail tests that take longer on two cores")


def now() -> tuple[float, float]:
    """Return the clock, and the CPU time of this process and of its children that have ended, in seconds."""
    return time.monotonic(), sum(os.times()[:4])


def too_long(cpu_s: float, most_s: float) -> str:
    """Return why a test is too long whatever else the machine did, or nothing."""
    if cpu_s <= SLACK * CORES * most_s:
        return ""
    return f"too long: {cpu_s:.0f} s of CPU time, and {most_s:g} s of {CORES} cores are all that a test may take"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    item.stash[BEGAN] = now()
    item.stash[MAKING] = False
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef, request):
    stash = request._pyfuncitem.stash
    if fixturedef.scope == "function" or stash[MAKING]:  # the test's own, or a part of what is being made
        return (yield)
    stash[MAKING], began = True, now()
    try:
        return (yield)
    finally:
        stash[MAKING] = False
        moved = zip(stash[BEGAN], now(), began, strict=True)
        stash[BEGAN] = tuple(own + after - before for own, after, before in moved)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    most_s = item.config.getoption("longest")
    if most_s and report.when == "teardown":
        clock_s, cpu_s = (after - before for after, before in zip(now(), item.stash[BEGAN], strict=True))
        report.user_properties.append(("took", (clock_s, cpu_s)))
        why = too_long(cpu_s, most_s)
        if why and report.passed:
            report.outcome, report.longrepr = "failed", why
    return report


def pytest_terminal_summary(terminalreporter, config) -> None:
    most_s = config.getoption("longest")
    if not most_s:
        return
    for report in (one for reports in terminalreporter.stats.values() for one in reports if hasattr(one, "when")):
        took = dict(report.user_properties).get("took") if report.when == "teardown" else None
        if took and took[0] > most_s:
            terminalreporter.write_line(f"over {most_s:g} s: {report.nodeid}: {took[0]:.0f} s, {took[1]:.0f} s of CPU")
