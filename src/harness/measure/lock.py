"""One quartet is timed on a device at a time: a lock by device, shared by all sweeps of a user on this machine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock


@contextmanager
def device_lock(device_id: str) -> Iterator[None]:
    """Hold the lock of a device (a GPU's UUID, or "cpu"); wait for whoever has it.

    It is an operating-system lock on a file, so a holder that dies in whatever way lets go of it.
    """
    safe = "".join(c if c.isalnum() else "-" for c in device_id)
    with FileLock(Path(tempfile.gettempdir()) / f"harness-{os.getuid()}-{safe}.lock"):
        yield
