"""Inductor's kernels in a profile of PyTorch: told by their order, which the compiler wrote down when it made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.engines.profiling.parts import part_of_parameter
from harness.engines.profiling.profile import SPANNING, UNKNOWN

# what the compiler calls a kernel of a library, and what the profiler calls the operation, where they differ
_CALLED = {"bias_addmm": "addmm"}


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


def told_by_order(events: Sequence[Any], kernels: Sequence[tuple[str, str]]) -> Mapping[int, str]:
    """Return the part of each event of a batch (in the order of their start) that is one of these kernels, by its id.

    Nothing is told unless every kernel is found: with one out of step, all after it would be wrong.
    """
    found: dict[int, str] = {}
    upcoming = iter(events)
    for kernel, part in kernels:
        event = next((one for one in upcoming if _is(one.name, kernel)), None)
        if event is None:
            return {}
        found[event.id] = part
    return found


def _is(event: str, kernel: str) -> bool:
    """Whether an event is a call of this kernel: generated ones bear its name, a library's the operation's."""
    if not kernel.startswith(("extern_kernels.", "torch.ops.", "aten.")):
        return event.endswith(kernel)  # "graph_0_cpp_fused_relu_1", "triton_poi_fused_relu_1"
    name = kernel.removesuffix(".default").removesuffix(".out").rpartition(".")[2]
    return event.rpartition("::")[2] == _CALLED.get(name, name)
