"""Prepare several sweeps at once on one GPU and time them later, one after the other: what `one_gpu.sh` needs for it.

held.py lock FILE            hold a device's lock (src/harness/measure/lock.py): a sweep prepares, and then waits for it
held.py builds PID...        status 0 while a sweep started by one of these has processes that build
held.py interrupt PID...     Ctrl-C for the sweeps that were started by these
"""

from __future__ import annotations

import fcntl
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

import psutil


def main(command: str, *arguments: str) -> int:
    """Do what the docstring above says; return the exit status."""
    if command == "lock":
        with open(arguments[0], "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            signal.pause()
    sweeps = [child for pid in arguments for child in _children(int(pid))]
    if command == "builds":
        return 0 if any("spawn_main" in _command(child) for sweep in sweeps for child in _children(sweep.pid)) else 1
    for sweep in sweeps:
        with suppress(psutil.Error):
            sweep.send_signal(signal.SIGINT)
    return 0


def _children(pid: int) -> Sequence[psutil.Process]:
    try:
        return psutil.Process(pid).children()
    except psutil.Error:  # it has ended
        return []


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
