"""From processes to cells that can be timed: load, verify, find the common boundaries, warm up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from harness.config import ProtocolConfig
from harness.measure.cell import Cell, Loaded, Warmup
from harness.measure.coordinator import Handle, workers
from harness.measure.progress import Progress, Silent
from harness.measure.settings import resolve_protocol
from harness.measure.verify import Fidelity, compare
from harness.system.errors import CellError
from harness.system.machine import usable_cores
from harness.techniques.arch.stages import NetworkOutputs

LOADED_AT_ONCE = 4  # cells, or half as many as there are cores: one that measures its launches must not be crowded
COURSEWORK_WARMUPS, COURSEWORK_ITERATIONS = 3, 20  # the coursework's own recipe


def bring_up(
    cells: Sequence[Cell],
    handles: Mapping[str, Handle],
    settings: ProtocolConfig,
    progress: Progress,
    failed: Callable[[str, CellError], None] | None = None,
) -> tuple[dict[str, Loaded], dict[str, Fidelity]]:
    """Load cells, several at once (nothing is timed yet), and verify them one after the other.

    A cell that can't be loaded or computes something else raises CellError; with `failed` it is reported there
    and left out of what is returned.
    """
    at_once = max(LOADED_AT_ONCE, usable_cores() // 2)
    loaded: dict[str, Loaded] = {}
    fidelity: dict[str, Fidelity] = {}
    for start in range(0, len(cells), at_once):
        found, compared = _brought_up(cells[start : start + at_once], handles, settings, progress, failed)
        loaded, fidelity = loaded | found, fidelity | compared
    return loaded, fidelity


def _brought_up(
    cells: Sequence[Cell],
    handles: Mapping[str, Handle],
    settings: ProtocolConfig,
    progress: Progress,
    failed: Callable[[str, CellError], None] | None,
) -> tuple[dict[str, Loaded], dict[str, Fidelity]]:
    """Load all of these cells at once, then verify them."""
    progress.stage("load")
    for cell in cells:
        handles[cell.name].send("load")
    loaded: dict[str, Loaded] = {}
    fidelity: dict[str, Fidelity] = {}
    for cell in cells:
        name = cell.name
        try:
            loaded[name] = handles[name].receive("load", settings.worker_timeout_s)
        except CellError as error:
            if failed is None:
                raise
            failed(name, error)
    for cell in cells:
        name = cell.name
        if name not in loaded:
            continue
        progress.stage("verify", name)
        try:
            fidelity[name] = verified(cell, handles[name], settings)
        except CellError as error:
            if failed is None:
                raise
            del loaded[name]
            failed(name, error)
    return loaded, fidelity


def verified(cell: Cell, handle: Handle, settings: ProtocolConfig) -> Fidelity:
    """Return how true a cell's outputs are; raise CellError where they are another network's."""
    assert cell.expected is not None
    outputs: NetworkOutputs = handle.ask("verify", cell.expected.inputs, settings.worker_timeout_s)
    try:
        return compare(outputs, cell.expected, cell.artifacts[0].plan.arithmetic)
    except CellError as error:
        raise CellError(f"{cell.name}: {error}") from None


def try_out(cell: Cell, settings: ProtocolConfig) -> None:
    """Load and verify one cell in a worker of its own; raise CellError with the reason if that goes wrong."""
    with workers([cell]) as handles:
        bring_up([cell], handles, resolve_protocol(settings, cell.device), Silent())


def warm_up(
    handles: Mapping[str, Handle], settings: ProtocolConfig, device: str, progress: Progress
) -> dict[str, Warmup]:
    """Warm up one cell after the other; return how each of them got there."""
    return {name: warm_up_cell(name, handle, settings, device, progress) for name, handle in handles.items()}


def warm_up_cell(name: str, handle: Handle, settings: ProtocolConfig, device: str, progress: Progress) -> Warmup:
    """Warm up one cell; return how it got there."""
    progress.stage("warm-up", name)
    min_s = settings.warmup_min_s if device == "cuda" else 0.0
    found: Warmup = handle.ask("warm_up", (settings, min_s), settings.worker_timeout_s + settings.warmup_max_s)
    return found


def usual_recipe(name: str, handle: Handle, settings: ProtocolConfig, progress: Progress) -> list[float]:
    """Run the coursework's recipe on the same executable: milliseconds of each iteration."""
    progress.stage("coursework recipe", name)
    counts = (COURSEWORK_WARMUPS, COURSEWORK_ITERATIONS)
    found: list[float] = handle.ask("coursework", counts, settings.worker_timeout_s)
    return found


def common_boundaries(loaded: Mapping[str, Loaded]) -> tuple[str, ...]:
    """Return the boundaries that all cells offer: a quartet has only those."""
    offered = [cell.boundaries for cell in loaded.values()]
    return tuple(name for name in offered[0] if all(name in others for others in offered))


def check_same_boundaries(boundaries: Sequence[str], loaded: Mapping[str, Loaded]) -> None:
    """Raise CellError where a restart lacks a boundary that the first one had: its blocks could not be joined."""
    for role, cell in loaded.items():
        missing = [name for name in boundaries if name not in cell.boundaries]
        if missing:
            raise CellError(f"{role}: no {missing[0]} boundary after a restart: {cell.no_device}")


def primary_boundary(requested: str, loaded: Mapping[str, Loaded], settings: ProtocolConfig) -> tuple[str, str]:
    """Return the boundary for verdicts, and why it is another one than was planned ("" if it is not)."""
    lacking = {role: cell.no_device for role, cell in loaded.items() if requested not in cell.boundaries}
    if not lacking:
        return requested, ""
    reason = "; ".join(f"{role}: {why}" for role, why in lacking.items())
    if settings.primary != "auto":
        raise CellError(f"protocol.primary={requested}: not every cell has it: {reason}")
    return "wall", f"verdict on wall, because there is no device boundary: {reason}"


def unsteady(warmups: Mapping[str, Warmup]) -> str:
    """Return which cells reached no steady state, as a note; "" if all did."""
    roles = [role for role, found in warmups.items() if not found.steady]
    return f"{', '.join(roles)}: no steady state within the warm-up's time" if roles else ""
