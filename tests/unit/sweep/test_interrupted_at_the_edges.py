"""Ctrl-C before anything is begun, after the last quartet, and what is promised then."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest

from harness.config import TrackingConfig
from harness.sweep import run as run_module
from harness.tracking.runs import sweeps
from harness.tracking.store import find_store

AT_THE_FIRST_IMPORT = """
import builtins, os, runpy, signal, sys, threading
plain = builtins.__import__

def interrupting(name, *rest, **named):
    if name.startswith(("harness.sweep", "harness.commands", "harness.report.command")):
        os.kill(os.getpid(), signal.SIGINT)
    return plain(name, *rest, **named)

builtins.__import__ = interrupting
module = sys.argv[1]
sys.argv = [module, "--help"]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    "module", ["harness", *(f"harness.{name}" for name in ("ui", "doctor", "train", "capacity", "report"))]
)
def test_an_interrupt_while_modules_are_imported_is_one_line(module, plain_environment):
    done = subprocess.run(
        [sys.executable, "-c", AT_THE_FIRST_IMPORT, module], env=plain_environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "harness: interrupted: nothing was begun.\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_finished_command_takes_its_modules_down_changes_no_status(number, plain_environment):
    end = (
        "import os, sys; from harness.system.early import answer_early, ignore_from_here; answer_early(); "
        f"ignore_from_here(); os.kill(os.getpid(), {number:d}); sys.exit(1)"
    )
    done = subprocess.run([sys.executable, "-c", end], env=plain_environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.fixture
def interrupted(swept, new_store, monkeypatch):
    """Return a function: interrupted("after", *words) -> what a sweep said that was interrupted then, and its run."""

    def run(when, *words):
        conclude = run_module.conclude

        def interrupt(*given):
            if when == "after":
                conclude(*given)
            raise KeyboardInterrupt

        root = new_store()
        with monkeypatch.context() as patch:
            patch.setattr(run_module, "conclude", interrupt)
            done = swept("hw=fusion", "engine.build_only=true", f"tracking.root={root}", *words)
        assert done.returncode == 130
        return done, root, sweeps(find_store(TrackingConfig(root=str(root))))

    return run


def test_an_interrupt_after_the_last_quartet_leaves_no_sweep_running(interrupted):
    done, _, (sweep,) = interrupted("before")
    assert (sweep.info.status, sweep.data.tags["error"]) == ("KILLED", "interrupted")
    assert "1 of 1 quartet done and stored. To resume, run the same command: python -m harness" in done.stderr


def test_an_interrupt_after_the_end_changes_nothing(interrupted):
    done, _, (sweep,) = interrupted("after")
    assert sweep.info.status == "FINISHED" and "error" not in sweep.data.tags
    assert "all is measured and logged" in done.stderr and "To resume" not in done.stderr


def test_with_resume_never_the_command_that_is_promised_goes_on(interrupted, swept):
    done, root, (sweep,) = interrupted("before", "resume=never")
    (promised,) = re.findall(r"To resume, run: python -m harness .*", done.stderr)
    assert f"resume={sweep.info.run_id}" in promised and "resume=never" not in promised
    again = swept("hw=fusion", "engine.build_only=true", f"tracking.root={root}", f"resume={sweep.info.run_id}")
    assert again.returncode == 0 and "1 of 1 quartet already measured" in again.stdout
