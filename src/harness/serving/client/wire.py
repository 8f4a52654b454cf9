"""What goes between client and server: requests one way, the numbers of those that are answered the other.

Both ways are pipes: the kernel keeps the order, makes what is written visible, and wakes who waits. A message of the
client is a query's number, an image's and the time of `time.perf_counter()`, which on Linux and macOS is one clock for
all processes of a machine. In place of an image stand FLUSH, and CLOSE with the length of the JSON that follows it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

MESSAGE = struct.Struct("<Qqd")
FLUSH, CLOSE = -1, -2
NUMBER = struct.Struct("<Q")


def packed_numbers(numbers: Sequence[int]) -> bytes:
    """Return numbers as they are sent."""
    return struct.pack(f"<{len(numbers)}Q", *numbers)


def unpacked_numbers(data: bytes) -> tuple[int, ...]:
    """Return the numbers of whole entries."""
    return struct.unpack(f"<{len(data) // NUMBER.size}Q", data)
