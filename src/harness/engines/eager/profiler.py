"""PyTorch's profiler for eager and Inductor: operations on a CPU, kernels on a GPU, by the module that launched them.

https://docs.pytorch.org/docs/stable/profiler.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.engines.profiling import QUIET, RUNS, UNKNOWN, CellProfile, Layer, part_of_parameter, profile_of

if TYPE_CHECKING:
    from torch import nn

_MARK = "harness-part:"
_BATCH = "harness-batch"
_COMPILED = ("Torch-Compiled Region", "TorchDynamo", "## Call CompiledFxGraph")  # they hold kernels and the host's work
# events on the host that are no operation of torch's: CUDA's own calls, and what the profiler itself took
_NO_OPERATION = re.compile(
    r"cu(da)?[A-Z]|Activity Buffer|Command Buffer|Instrumentation|Resource|.* Module Loading|Lazy "
)
Kernels = Sequence[tuple[str, str]]
# what the compiler calls a kernel of a library, and what the profiler calls the operation, where they differ
_CALLED = {"bias_addmm": "addmm"}
MOVES = ("aten::copy_", "aten::_to_copy", "aten::contiguous", "aten::clone", "Memcpy", "Memset", "aten::cat")


def profile_module(
    launch: Callable[[], None], module: nn.Module | None, kernels: Kernels, device: str, runs: int = RUNS
) -> CellProfile:
    """Run batches under the profiler after as many without; `launch` calls `module`.

    A part begins where a module of it is called and lasts until the next one's begins, so what a network does between
    its modules belongs to the part before. What a compiler made runs without modules (None): its kernels and
    their parts are given, in the order of the calls.
    """
    import torch
    from torch.profiler import ProfilerActivity, profile, record_function

    wait: Callable[[], None] = torch.cuda.synchronize if device == "cuda" else lambda: None
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    with _marked(module) if module is not None else nullcontext():
        for _ in range(runs):
            launch()
        wait()
        with profile(activities=activities) as prof:
            for _ in range(1 + runs):
                with record_function(_BATCH):
                    launch()
                    wait()
    batches = _batches(prof.events(), device, kernels)[1:]  # the profiler sets itself up in the first
    return profile_of(
        "torch profiler", typical(found for found, _ in batches), float(np.quantile([ms for _, ms in batches], QUIET))
    )


def typical(batches: Iterable[list[Layer]]) -> list[Layer]:
    """Return the lower quartile of each layer over batches that ran the same ones; else the batch at that quartile."""
    measured = list(batches)
    if len({tuple((layer.name, layer.part) for layer in batch) for batch in measured}) == 1:
        return [
            replace(same[0], ms=float(np.quantile([layer.ms for layer in same], QUIET)))
            for same in zip(*measured, strict=True)
        ]
    return sorted(measured, key=lambda batch: sum(layer.ms for layer in batch))[int(len(measured) * QUIET)]


@contextmanager
def _marked(module: nn.Module) -> Iterator[None]:
    """Have the topmost modules of each part leave a mark in the profile when they are called.

    One that holds modules of another part marks what it does before them; theirs are marked, and its own modules after
    them. What it does itself after one of another part counts as that part's.
    """
    from torch.profiler import record_function

    def marker(part: str) -> Callable[..., None]:
        def mark(*_: Any) -> None:
            with record_function(f"{_MARK}{part}"):
                pass

        return mark

    hooks = []
    parts = {name: part_of_parameter(f"{name}.") for name, _ in module.named_modules() if name}
    covered: list[str] = []
    for name, child in module.named_modules():
        part = parts.get(name)
        if part is None or name.startswith(tuple(covered)):
            continue
        hooks.append(child.register_forward_pre_hook(marker(part)))
        if all(parts[below] == part for below in parts if below.startswith(f"{name}.")):
            covered.append(f"{name}.")
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _batches(events: Any, device: str, kernels: Kernels) -> list[tuple[list[Layer], float]]:
    """Return the layers of each batch in the order they ran, and its milliseconds on the host."""
    # CUDA numbers its calls by itself: one that torch puts among its operations may bear the number of another one
    # of these, whose kernels it is then given a second time
    on_host = (event for event in events if event.device_type.name == "CPU" and not _NO_OPERATION.match(event.name))
    host = sorted(on_host, key=lambda event: event.time_range.start)
    out = []
    for batch in (event for event in host if event.name == _BATCH):
        end = batch.time_range.end
        start = batch.time_range.start
        inside = [event for event in host if start <= event.time_range.start < end and event is not batch]
        part_of_event = parts_by_order(inside, kernels)
        layers = _on_gpu(inside, part_of_event) if device == "cuda" else _on_cpu(inside, part_of_event, batch)
        out.append((layers, batch.cpu_time_total / 1e3))
    return out


def _on_gpu(events: Iterable[Any], part_of_event: Mapping[int, str]) -> list[Layer]:
    """Return the kernels that the host's events launched."""
    out: list[Layer] = []
    part = UNKNOWN
    for event in events:
        if event.name.startswith(_MARK):
            part = event.name.removeprefix(_MARK)
        event_part = _within(event, part_of_event) or part
        out.extend(
            Layer(kernel.name, event_part, kernel.duration / 1e3, _moves(kernel.name)) for kernel in event.kernels
        )
    return out


def _on_cpu(events: Iterable[Any], part_of_event: Mapping[int, str], batch: Any) -> list[Layer]:
    """Return the operations that the batch itself called; of compiled code its kernels, where their parts are known.

    An operation that compiled code calls beside its kernels is unattributed.
    """
    out: list[Layer] = []
    part = UNKNOWN
    for event in events:
        if event.name.startswith(_MARK):
            part = event.name.removeprefix(_MARK)
        elif event.id in part_of_event:
            out.append(Layer(event.name, part_of_event[event.id], event.cpu_time_total / 1e3, _moves(event.name)))
        elif part_of_event and event.name.startswith(_COMPILED):
            continue
        elif _called_by(event, batch, within_compiled=bool(part_of_event)):  # its time holds what it calls
            out.append(Layer(event.name, part, event.cpu_time_total / 1e3, _moves(event.name)))
    return out


def _called_by(event: Any, batch: Any, within_compiled: bool) -> bool:
    """Whether the batch called this event itself; or, of torch's operations, the compiled code that it called."""
    caller = event.cpu_parent
    if caller is None or caller.id == batch.id:
        return caller is not None
    return within_compiled and "::" in event.name and caller.name.startswith(_COMPILED)


def _within(event: Any, part_of_event: Mapping[int, str]) -> str | None:
    """Return the part of the kernel that this event is, or is called by."""
    while event is not None:
        if event.id in part_of_event:
            return part_of_event[event.id]
        event = event.cpu_parent
    return None


def parts_by_order(events: Sequence[Any], kernels: Sequence[tuple[str, str]]) -> Mapping[int, str]:
    """Return the part of each event of a batch (in the order of their start) that is one of these kernels, by its id.

    Empty unless every kernel is found: with one out of step, all after it would be wrong.
    """
    found: dict[int, str] = {}
    upcoming = iter(events)
    for kernel, part in kernels:
        event = next((event for event in upcoming if _is(event.name, kernel)), None)
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


def _moves(name: str) -> bool:
    return name.startswith(MOVES)
