"""Inductor's kernels by part of the network: the compiler wrote down which modules each of them computes."""

from __future__ import annotations

from collections.abc import Sequence

from harness.engines.profiling import SPANNING, UNKNOWN, part_of_parameter


def parts_of_kernels(origins: Sequence[tuple[str, Sequence[str]]]) -> list[tuple[str, str]]:
    """Return kernel and part, in the order of the calls.

    A kernel of several parts is SPANNING. One of no module (a flattening, a pooling that the network itself does)
    belongs to the part before, as in an eager network.
    """
    out: list[tuple[str, str]] = []
    before = UNKNOWN
    for kernel, modules in origins:
        parts = {part for name in modules if (part := part_of_parameter(f"{name}.")) is not None}
        part = before if not parts else parts.pop() if len(parts) == 1 else SPANNING
        out.append((kernel, part))
        before = before if part == SPANNING else part
    return out
