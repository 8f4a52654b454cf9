"""No orphans: a child process that ends with its parent, whatever way that one ends, and never of its Ctrl-C.

Also which process a sweep belongs to, and whether that one still runs: by the kernel's own count, not the wall clock.

A start time in seconds since the epoch moves when the clock is set; ticks since boot do not. A process id means
something in its own boot and its own PID namespace alone: a container beside this one, or a machine of the same name,
counts from 1 again. Of a process there nobody can tell here.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1  # prctl(2)


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies; end at once if that has happened already.

    `parent` is the parent's process id as the parent knows it (it may be 1, in a container).
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


@contextmanager
def no_interrupts() -> Iterator[None]:
    """Start child processes inside: they are born with SIGINT blocked, for Ctrl-C is their parent's, who ends them.

    A child can't see to that itself: it would die with a traceback on the screen while it still imports its modules.
    A signal that comes meanwhile reaches the parent right after.
    """
    resource_tracker.ensure_running()  # multiprocessing starts it with the first child, and unblocks the signal then
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_GUARD = "from harness.system.processes import guard; guard()"


def start_guarded(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own that ends with this process, all it has started with it.

    A process between both waits for the end of a pipe that only this one holds: also a kill closes it. `options` are
    Popen's.
    """
    return subprocess.Popen(
        [sys.executable, "-c", _GUARD, *command], stdin=subprocess.PIPE, start_new_session=True, **options
    )


def guard() -> None:
    """Run this process's arguments as a command, and end the session with it or with whoever started this process."""
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)

    def watch() -> None:
        sys.stdin.buffer.read()
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    status = child.wait()
    os._exit(status if status >= 0 else 128 - status)


_STATE, _START_TICKS = 0, 19  # fields of /proc/PID/stat behind the command's name, proc(5)


def this_process() -> str:
    """Return a name of this process that no other one on any machine has, at any time."""
    return f"{socket.gethostname()} {os.getpid()} {_born(os.getpid())}"


def is_running(identity: str) -> bool | None:
    """Return whether the process of this name runs; None where that can't be told here.

    A process that ended and was not waited for yet (a zombie) does not run. Of another machine, another boot or another
    PID namespace nobody can tell.
    """
    host, _, rest = identity.partition(" ")
    pid, _, born = rest.partition(" ")
    if host != socket.gethostname() or not pid.isdigit() or born.rpartition("/")[0] != _counted_in():
        return None
    return _born(int(pid)) == born


def _counted_in() -> str:
    """Return what process ids are counted in: the boot and the PID namespace; "" where a system has neither."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.is_file():
        return ""
    try:
        namespace = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        namespace = "?"
    return f"{boot.read_text().strip()}/{namespace}"


def _born(pid: int) -> str | None:
    """Return when a process was started and in what it is counted, None where it does not run."""
    place = _counted_in()
    if not place:
        return _born_elsewhere(pid)
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[_STATE] in "ZX" else f"{place}/{fields[_START_TICKS]}"


def _born_elsewhere(pid: int) -> str | None:
    """Return the same without Linux's files: to a second, for such systems keep a process's start themselves."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.0f}"
    except psutil.Error:
        return None
