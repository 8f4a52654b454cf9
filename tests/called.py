"""A command of ours called in this process: a status and what it printed, without seconds of imports each time."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path


def called(
    main: Callable[[Sequence[str]], int | None], arguments: Sequence[str], cwd: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess:
    """Call `main(arguments)` as a process would run it: in that folder and environment.

    What child processes write to the same screen counts as printed. What an interpreter does at its end is not seen.
    """
    with ExitStack() as stack:
        out, err = (stack.enter_context(tempfile.TemporaryFile("w+", errors="replace")) for _ in range(2))
        stack.enter_context(_elsewhere(cwd, environment))
        stack.enter_context(_as_it_was())
        with _screen(1, "stdout", out), _screen(2, "stderr", err):
            try:
                status = main(list(arguments)) or 0
            except SystemExit as end:  # argparse's refusal, which it has printed
                status = end.code if isinstance(end.code, int) else 1
        printed = []
        for file in (out, err):
            file.seek(0)
            printed.append(file.read())
    return subprocess.CompletedProcess(list(arguments), status, *printed)


@contextmanager
def _elsewhere(cwd: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Stand in a folder, with these variables and no others, as child processes will."""
    folder, variables, temporary = os.getcwd(), dict(os.environ), tempfile.tempdir
    try:
        os.chdir(cwd)
        _become(environment)
        tempfile.tempdir = None  # looked up anew: TMPDIR
        yield
    finally:
        os.chdir(folder)
        _become(variables)
        tempfile.tempdir = temporary


def _become(variables: Mapping[str, str]) -> None:
    for name in set(os.environ) - set(variables):
        del os.environ[name]
    os.environ.update(variables)


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Give back what a program may set for itself: signals, warnings, the root logger's handlers and level."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with warnings.catch_warnings():
        try:
            yield
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
            for number, handler in signals.items():
                signal.signal(number, handler)


@contextmanager
def _screen(number: int, name: str, file) -> Iterator[None]:
    """Let a file stand for the screen, for Python and below it (the descriptor, which child processes inherit)."""
    before = getattr(sys, name)
    before.flush()
    saved = os.dup(number)
    try:
        os.dup2(file.fileno(), number)
        with open(os.dup(number), "w", buffering=1, errors="replace") as text:
            setattr(sys, name, text)
            yield
    finally:
        setattr(sys, name, before)
        os.dup2(saved, number)
        os.close(saved)


def run_quartet(plan, cache, progress, folder, resolved_config=""):
    """Return the row of one quartet that is built and measured by itself, without a store."""
    from harness.measure.lock import building, device_id, device_lock
    from harness.sweep.build import build_quartet
    from harness.sweep.job import row_of
    from harness.sweep.scenarios import scenario_of

    scenario = scenario_of(plan.config)
    with building():
        built = [build_quartet(requested, cache, progress, number) for requested, number in scenario.builds(plan)]
    with device_lock(device_id(plan.device)):
        measurement = scenario.measure(plan, built, progress)
    return row_of(plan, built, measurement, folder, resolved_config)


def mean_wait_md1_s(rate_per_s, service_s):
    """Return the mean queueing time of an M/D/1 queue (Pollaczek-Khinchine): rho s / (2 (1 - rho)).

    Source: Kleinrock, Queueing Systems, volume 1 (1975), section 5.6.
    """
    load = rate_per_s * service_s
    assert 0 <= load < 1
    return load * service_s / (2 * (1 - load))
