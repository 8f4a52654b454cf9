"""The engine contract: what goes into a build, what comes out, and what a loaded engine can do."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from harness.config import EngineOption
from harness.networks.inputs import TensorSpec
from harness.system.errors import CellError, UserError, first_line
from harness.system.locks import locked
from harness.system.machine import gpu
from harness.techniques.levels import FP32, BatchProfile, Capabilities, FusionLevel, Levels, Precision

if TYPE_CHECKING:
    import onnx

    from harness.config import HarnessConfig
    from harness.engines.profiling import CellProfile
    from harness.stats.prior import KnownSpread

Option = str | int | float | bool
INSPECTOR_FILE = "inspector.json"  # in an artifact's folder, where its engine could tell what layers it made


@dataclass(frozen=True)
class Graph:
    """An exported stage of a network: an ONNX file with a dynamic batch, already in the plan's precision."""

    path: Path
    sha256: str  # of graph and weights, without metadata that holds paths
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    nodes: int


def load_graph(path: Path) -> onnx.ModelProto:
    """Return an ONNX model with its weights; raise CellError where it isn't one, or names files outside its folder.

    onnx itself follows no such name, wherever in the model it is, and no link. A file that can't be read raises
    OSError.
    """
    import onnx

    try:
        return onnx.load(path)
    except OSError:
        raise
    except Exception as error:  # protobuf's DecodeError and onnx's ValidationError have no base in common but this
        raise CellError(f"{path.name} is not a usable ONNX model: {first_line(error)[:300]}") from error


@dataclass(frozen=True)
class BuildPlan:
    """Everything that can change what an engine makes of one graph."""

    engine: str
    graph: Graph
    batch: BatchProfile
    precision: Precision = FP32
    fusion: FusionLevel = "off"
    cuda_graph: bool = False  # `enqueue` replays a captured graph; an engine that can't says so in `degraded`
    tf32: bool = False
    device: str = "cpu"  # cpu | cuda
    compute_capability: tuple[int, int] | None = None  # chip to build for; None: the one that is here
    instance: str = ""  # a second build of the same thing (identity control, replicated builds)
    recipe: str = ""  # JSON that rebuilds the nn.Module in a worker (eager, inductor); "" if not needed
    stage: str = ""  # which stage of the recipe's network this graph is
    options: tuple[tuple[str, Option], ...] = ()  # the engine's own, sorted by name
    profiles: tuple[BatchProfile, ...] = ()  # TensorRT: the dynamic batch in several ranges; (): as the one it is
    timing_dir: str = ""  # folder of TensorRT's timing cache; where it lies is no part of the artifact's key

    @property
    def arithmetic(self) -> Precision:
        """What is computed in: the precision under the TF32 policy."""
        return self.precision.under_policy(self.tf32)


@dataclass(frozen=True)
class Artifact:
    """What an engine built: files in one folder, and what is known about them."""

    plan: BuildPlan
    path: Path  # the folder
    main_file: str  # name of the file to load, within the folder
    engine_version: str
    size_mb: float
    proof: Mapping[str, str | int | float] = field(default_factory=dict)  # nodes, layers, precision in use
    degraded: tuple[str, ...] = ()  # reasons why this is less than what was requested
    resolved: str = ""  # what the build chose where the plan left it a choice: TensorRT's builder level
    key: str = ""  # of the cache's entry; "" before it has one, and then it is not loaded for a measurement
    files: Mapping[str, str] = field(default_factory=dict)  # name within the folder -> SHA-256


@dataclass(frozen=True)
class Availability:
    """Whether an engine can build and run here; None means yes, a text is the reason why not."""

    build: str | None = None
    run: str | None = None


@dataclass(frozen=True)
class TakenAway:
    """What of an artifact runs elsewhere without this project; see `Engine.take_away`."""

    main_file: str | None  # name of the file to load, within the folder; None: the engine stays, the graph runs
    loader: str  # the file of `engines/loaders` that loads it
    needs: str  # what that imports, for a person: "onnxruntime 1.23"
    note: str  # where it runs; or why the engine stays
    facts: Mapping[str, Any] = field(default_factory=dict)  # JSON that the loader reads of its stage


def run_graph(plan: BuildPlan, why: str) -> TakenAway:
    """Return how an artifact's graph is run by ONNX Runtime, with the reason why its engine stays."""
    facts = {
        "threads": int(dict(plan.options).get("threads", 0)),
        "providers": [["CPUExecutionProvider", {}]],
        "optimise": True,
    }
    return TakenAway(None, "onnx", "onnxruntime", f"{why}; the loader runs the ONNX graph on a CPU", facts)


class Executable(Protocol):
    """A loaded artifact that runs one batch; owns its buffers and its stream, allocated once at load.

    Buffers are numpy arrays on a CPU and torch CUDA tensors on a GPU, shaped for `max_size` samples.
    """

    input_specs: tuple[TensorSpec, ...]
    output_specs: tuple[TensorSpec, ...]
    proof: Mapping[str, str | int | float]  # provider in use, captured graph, ...
    degraded: tuple[str, ...]
    stream: Any  # torch CUDA stream that everything is ordered on; None on a CPU

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def input_buffers(self) -> Mapping[str, Any]:
        """Return the buffers the next `enqueue` reads."""

    def output_buffers(self) -> Mapping[str, Any]:
        """Return the buffers `enqueue` writes."""

    def write_inputs(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Copy host arrays into the input buffers (not part of any timed slice but `end_to_end`)."""

    def poison_outputs(self) -> None:
        """Fill the output buffers with NaN, so that an output that is never written is noticed."""

    def enqueue(self, batch_size: int | None = None) -> None:
        """Run one batch of `batch_size` samples (default: the profile's `opt_size`); may return early."""

    def synchronize(self) -> None:
        """Wait until everything enqueued is done."""

    def outputs(self, batch_size: int | None = None) -> dict[str, np.ndarray]:
        """Return host copies of the outputs of the first `batch_size` samples."""

    def capture(self, batch_size: int) -> str | None:
        """Capture one batch as a CUDA graph for `replay`; return None, or the reason why that can't be done."""

    def replay(self, batch_size: int) -> None:
        """Enqueue what `capture` recorded."""

    def kernel_count(self) -> int | None:
        """Return how many kernels one batch launches, or None where the engine can't tell."""


class Engine(ABC):
    """A compiler with its runtime. Importing the module that defines one imports no GPU package.

    Whatever code outside its folder needs to know of an engine is a field or a method here: nobody compares its name.
    """

    name: str
    capabilities: Capabilities = Capabilities()
    options: tuple[EngineOption, ...] = ()  # `engine.*` that it reads besides the options that every engine has
    runs_module: bool = False  # it runs the nn.Module itself, rebuilt in the worker from a recipe
    quick: tuple[str, ...] = (
        "fp16",
        "fusion",
    )  # techniques whose builds take seconds, for a self-test; (): no build does

    @abstractmethod
    def version(self) -> str:
        """Return the version of the package behind it."""

    @abstractmethod
    def build(self, plan: BuildPlan, workdir: Path) -> Artifact:
        """Build into `workdir` (exists, empty, renamed into the cache by the caller); raise CellError."""

    @abstractmethod
    def load(self, artifact: Artifact, device: str) -> Executable:
        """Return the executable; enter it to allocate, leave it to free."""

    def availability(self, device: str) -> Availability:
        """Return what this engine can do on `device` ("cpu" or "cuda") on this machine."""
        return Availability()

    def settings(self, requested: Mapping[str, Any], levels: Levels, device: str) -> dict[str, Option]:
        """Return what `BuildPlan.options` shall hold of the engine's own options, given by name; None: not set."""
        return {name: value for name, value in requested.items() if value is not None}

    def builds_differ(self, requested: HarnessConfig, device: str) -> bool:
        """Whether a build times kernels on the device, so that another one of the same cell may choose others."""
        return device == "cuda" and self.capabilities.autotunes

    def build_spread(self, requested: HarnessConfig, device: str) -> KnownSpread | None:
        """Return how far another build moves ln(throughput); None where builds don't differ, or nobody knows."""
        from harness.stats.prior import KnownSpread  # which brings SciPy: engines are looked up for a mere --help

        known = self.capabilities.build_spread
        return KnownSpread(*known) if known and self.builds_differ(requested, device) else None

    def complete(self, plan: BuildPlan, requested: HarnessConfig, levels: Levels) -> BuildPlan:
        """Return a plan with what this engine alone takes of the config."""
        return plan

    def check(self, plan: BuildPlan) -> None:
        """Raise UserError if this plan can't be built, before any work; looks at options, not at files."""
        if plan.compute_capability is not None:
            raise UserError(
                f"engine.compute_capability: {self.name} builds for the machine it runs on; "
                "engine=tensorrt_rtx builds for another chip."
            )

    def profile(self, executable: Any, artifact: Artifact, device: str, batch_size: int) -> CellProfile:
        """Return where a batch spends its time, by part of the network; raise CellError where that is not known."""
        raise CellError(f"engine {self.name} has no profiler")

    def take_away(self, artifact: Artifact, folder: Path) -> TakenAway:
        """Copy into `folder` (exists, empty) what runs elsewhere without this project; return how it is loaded.

        By default an engine stays here, and its graph is run by ONNX Runtime.
        """
        return run_graph(artifact.plan, f"{self.name} has no file that runs without this project")

    def details(self) -> tuple[str, ...]:
        """Return what the doctor shows of the installed package, or how to get one; a line each."""
        return ()


def share_proof(precision: Precision, computed: int, weighted: int, left: Mapping[str, int]) -> dict[str, str | int]:
    """Return the proof of a precision that not all layers have: how many do, of how many, and why the others don't.

    Layers are the convolutions and products of one artifact; `left` counts the others by reason.
    """
    reasons = ", ".join(f"{count} {reason}" for reason, count in left.items())
    return {"layers_in_precision": computed, "layers_weighted": weighted, "layers_in_float": reasons}


def share_shortfall(precision: Precision, proof: Mapping[str, str | int | float]) -> tuple[str, ...]:
    """Return why fewer layers have a precision than it takes for a cell to be called by its name."""
    computed, weighted = int(proof["layers_in_precision"]), int(proof["layers_weighted"])
    if computed and computed >= precision.min_share * weighted:
        return ()
    return (
        f"{precision.name} in {computed} of {weighted} convolutions and products only; in float: "
        f"{proof['layers_in_float']}",
    )


Listener = Callable[[str, str], None]  # "attempt" or "status" and the text, or "waited" and the seconds

_listener: Listener | None = None


def listen_to_builds(listener: Listener | None) -> None:
    """Send what this process's builds say to `listener`; None: to nobody."""
    global _listener
    _listener = listener


def report_attempt(text: str) -> None:
    """Say that a compilation starts, which has the whole of `engine.build_limit_s` for itself."""
    _say("attempt", text)


def report_status(text: str) -> None:
    """Say where the compilation is."""
    _say("status", text)


@contextmanager
def kernels_timed_alone() -> Iterator[None]:
    """Let no two builds time kernels on this GPU at once, of whatever sweep: each would slow the other's down.

    Waiting takes nothing of `engine.build_limit_s` and is not counted as time to build. A GPU that the driver tells
    nothing of is taken for the only one. Raises UserError as `locked` does.
    """
    chip = gpu()
    began = time.monotonic()
    with locked(
        f"tuning-{chip['uuid'] if chip else 'gpu'}", lambda: report_attempt("waits until no other build times kernels")
    ):
        _say("waited", str(time.monotonic() - began))
        yield


def _say(kind: str, text: str) -> None:
    if _listener is not None:
        _listener(kind, text)
