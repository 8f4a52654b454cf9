"""What a cell is: planned, built, and measured; and the messages to and from its worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from harness.config import ArchConfig, HarnessConfig
from harness.engines.base import Artifact
from harness.measure.settings import primary_of
from harness.techniques.arch.stages import Router
from harness.techniques.levels import Levels

if TYPE_CHECKING:
    from harness.engines.profiling import CellProfile
    from harness.measure.predictions import Predictions
    from harness.measure.telemetry import Consumption
    from harness.measure.verify import Expected, Fidelity
    from harness.networks.data.labelled import Labelled
    from harness.networks.inputs import TensorSpec
    from harness.stats.prior import KnownSpread
    from harness.techniques.arch.accounting import Accounting


@dataclass(frozen=True)
class CellPlan:
    """One cell before anything was built."""

    role: str  # baseline | arch | hw | combined
    arch: ArchConfig  # techniques that are off in this cell are off here
    engine: str
    levels: Levels


@dataclass(frozen=True)
class QuartetPlan:
    """One Hydra job: the cells of a 2x2 design, or the one or two that are left without a technique."""

    config: HarnessConfig
    device: str  # cpu | cuda
    engine: str  # resolved; what the last cell runs on
    arch: tuple[str, ...]
    hw: tuple[str, ...]
    cells: tuple[CellPlan, ...]

    @property
    def primary(self) -> str:
        """The boundary that verdicts use."""
        return primary_of(self.config.protocol, self.device)

    @property
    def label(self) -> str:
        """A short name: what is tested, first."""
        if not self.arch and not self.hw:
            return "baseline"
        return f"{'+'.join(self.arch) or 'none'} x {'+'.join(self.hw) or 'none'}"

    @property
    def run_name(self) -> str:
        """What its run is called in MLflow and on the screen: `grouped x fusion b8`."""
        return f"{self.label} b{self.config.batch_size}"


@dataclass(frozen=True)
class Cell:
    """One built cell: its worker's instructions, what the build took, and what its outputs must match. It is picklable.

    Nothing here makes a process that unpickles it import torch: workers set up their thread pools first.
    """

    name: str  # what tells it apart in its design: its role, where that is one quartet
    role: str  # baseline | arch | hw | combined
    engine: str
    levels: Levels  # as they were built: `fusion_step` is the one that held
    artifacts: tuple[Artifact, ...]  # one a stage, in their order
    device: str  # cpu | cuda
    batch_size: int
    router: Router  # which samples go on between the stages
    recipe: str  # JSON that rebuilds the cell's network, to compare its own answers with
    accounting: Accounting  # what that network costs on paper
    threads: int = 0  # of a CPU engine; 0: the engine's own choice
    input_seed: int = 0  # of the inputs that are timed: their values, or which of the labelled images
    labelled: Labelled | None = None  # images to time and to test on; None: made inputs
    own_inputs: Mapping[str, np.ndarray] | None = None  # made by the network's author, [N, ...]; None: standard normal
    export_s: float = 0.0
    engine_s: float = 0.0
    build_spread: KnownSpread | None = None  # how far another build moves ln(throughput), where that is known
    cache_hit: bool = False  # every export and artifact of this cell was in the cache
    notes: tuple[str, ...] = ()  # what had to be given up for it to work
    expected: Expected | None = None  # the reference its outputs must match; None: nothing is to be run

    def made_inputs(self, specs: Sequence[TensorSpec], count: int, seed: int) -> Mapping[str, np.ndarray]:
        """Return `count` samples of inputs without labels, by name; the author's own are repeated if they are few."""
        from harness.networks.inputs import normal_arrays

        if self.own_inputs is None:
            return normal_arrays(specs, count, seed)
        return {name: np.resize(array, (count, *array.shape[1:])) for name, array in self.own_inputs.items()}

    @property
    def sample(self) -> str:
        """What a batch is counted in: `image`, or `sample` where the network takes something else."""
        from harness.networks.inputs import sample_word

        return sample_word(self.artifacts[0].plan.graph.inputs)

    @property
    def engine_mb(self) -> float:
        """Size of all artifacts, MB."""
        return sum(artifact.size_mb for artifact in self.artifacts)

    @property
    def degraded(self) -> tuple[str, ...]:
        """Why this cell does less than requested, without repetition."""
        found = [*self.notes, *(reason for artifact in self.artifacts for reason in artifact.degraded)]
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class Loaded:
    """What an engine said when it was loaded."""

    proof: dict[str, str | int | float]
    degraded: tuple[str, ...]
    kernels: int | None
    boundaries: tuple[str, ...]
    pid: int
    seconds: float = 0.0  # it took to load
    no_device: str = ""  # why a cell on a GPU has no device boundary


@dataclass(frozen=True)
class Warmup:
    """How a cell reached its steady state."""

    iterations: int
    seconds: float
    steady: bool  # the last windows agreed before `warmup_max_s` was over


@dataclass(frozen=True)
class CellAnswers:
    """What a cell answered on the labelled test images, and what its own network answers in fp32 eager."""

    cell: Predictions
    eager: Predictions


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """What was measured on one cell, beside the times that it shares with the others of its quartet."""

    loaded: Loaded
    fidelity: Fidelity
    warmup: Warmup | None = None  # None: its scenario does not say
    coursework_ms: tuple[float, ...] = ()  # of the usual recipe, if requested
    consumption: Consumption | None = None  # None: no process lived long enough to measure it
    answers: CellAnswers | None = None  # None: the data has no labels, or they could not be had
    profile: CellProfile | None = None  # None: not requested, or it failed


@dataclass(frozen=True)
class SustainedLoad:
    """How many batches a cell ran in one go, and how long that took."""

    iterations: int
    seconds: float


@dataclass(frozen=True)
class Turn:
    """The instructions to a worker for one visit."""

    boundaries: tuple[str, ...]
    ramp_iterations: int  # untimed, before each of them
    slice_s: float
    batch: int = 0  # which of the labelled batches, so that all cells of a block have the same images


@dataclass(frozen=True)
class Slice:
    """One timed visit: milliseconds of each iteration, by boundary."""

    milliseconds: dict[str, list[float]] = field(default_factory=dict)
