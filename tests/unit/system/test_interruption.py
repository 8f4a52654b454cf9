"""Ctrl-C and SIGTERM: answered within a second and ended in any case, whatever the main thread is doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

BEGIN = """
import sys, time
from harness.system import interruption
from harness.system.interruption import Interruption
interruption.GRACE_S = float(sys.argv[1])
"""
ORDERLY = """
try:
    with Interruption() as one:
        one.progress = "1 of 2 quartets are done"
        try:
            print("ready", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            one.answer()
            sys.exit(interruption.INTERRUPTED)
finally:
    print("cleaned up", flush=True)
"""
DEAF = """
with Interruption() as one:
    one.progress = "1 of 2 quartets are done"
    ready = True
    while True:  # as something does that swallows what a handler raises
        try:
            print("ready" if ready else "still there", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            ready = False
"""


@pytest.fixture
def started(plain_environment):
    """Return a function: started(code, grace_s) -> a process that is ready to be interrupted."""
    processes = []

    def start(code: str, grace_s: float = 60.0) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", BEGIN + code, str(grace_s)], env=plain_environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        processes.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_orderly_end_says_once_how_far_it_got(started, number):
    process = started(ORDERLY)
    process.send_signal(number)
    output, errors = process.communicate(timeout=20)
    assert (process.returncode, output) == (130, "cleaned up\n")
    assert errors == "harness: interrupted: 1 of 2 quartets are done\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_deaf_main_thread_is_answered_for_and_ended_when_the_grace_is_over(started, number):
    process = started(DEAF, grace_s=0.5)
    process.send_signal(number)
    assert process.stderr.readline() == "harness: interrupted: 1 of 2 quartets are done\n"
    assert process.poll() is None  # the answer comes first, before anything is forced
    assert process.wait(20) == 130


def test_a_second_signal_does_not_wait_for_the_grace(started):
    process = started(DEAF)
    process.send_signal(signal.SIGINT)
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130


def test_signals_are_given_back():
    from harness.system.interruption import Interruption

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), Interruption():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_another_handler_took_has_come_all_the_same():
    from harness.system.interruption import Interruption

    with Interruption() as one:
        assert not one.came()
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))  # as Ray does
        with pytest.raises(SystemExit):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        assert one.came()


def test_a_child_that_still_starts_is_taken_along_without_a_word():
    code = (
        "import multiprocessing; from harness.system.interruption import leave\n"
        "multiprocessing.get_context('spawn').Process(target=print).start()\n"
        "leave()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
