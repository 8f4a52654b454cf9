"""A command that is started guarded ends with whoever started it, with all that it has started itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

STARTER = """
import subprocess, sys, time
from harness.system.processes import start_guarded
started = start_guarded(["sh", "-c", "sleep 300 & echo begun; sleep 300"])
print(started.pid, flush=True)
time.sleep(300)
"""


def _family(session: int) -> list[int]:
    return [process.pid for process in psutil.process_iter() if _session_of(process.pid) == session]


def _session_of(pid: int) -> int | None:
    try:
        return None if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE else os.getsid(pid)
    except (OSError, psutil.Error):
        return None


def _until(condition) -> bool:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def test_nothing_is_left_of_a_guarded_command_when_its_starter_is_killed():
    starter = subprocess.Popen([sys.executable, "-c", STARTER], stdout=subprocess.PIPE, text=True)
    lines = {starter.stdout.readline().strip(), starter.stdout.readline().strip()}
    session = int(*(lines - {"begun"}))
    assert len(_family(session)) >= 3  # the guard, and two of the shell's
    starter.kill()
    starter.communicate()
    assert _until(lambda: _family(session) == [])


@pytest.mark.parametrize(("command", "status"), [("exit 3", 3), ("kill -9 $$", 137)])
def test_a_guarded_command_ends_with_its_own_status(command, status):
    code = f"from harness.system.processes import start_guarded; exit(start_guarded(['sh', '-c', {command!r}]).wait())"
    assert subprocess.run([sys.executable, "-c", code]).returncode == status
