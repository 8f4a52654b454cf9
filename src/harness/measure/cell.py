"""What a worker is given and what it gives back: the plans and results of one cell, frozen and picklable."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.engines.base import Artifact
from harness.networks.data.labelled import Labelled
from harness.techniques.arch.stages import ONE_STAGE, Router


@dataclass(frozen=True)
class CellSpec:
    """One cell, ready to be loaded in a worker."""

    role: str
    artifacts: tuple[Artifact, ...]  # one a stage, in their order
    device: str  # cpu | cuda
    batch_size: int
    router: Router = ONE_STAGE  # which samples go on between the stages
    threads: int = 0  # of a CPU engine; 0: the engine's own choice
    input_seed: int = 0  # of the inputs that are timed: their values, or which of the labelled images
    labelled: Labelled | None = None  # images to time and to test on; None: synthetic ones
    recipe: str = ""  # JSON that rebuilds the cell's network, to compare its own answers with


@dataclass(frozen=True)
class Loaded:
    """What an engine said when it was loaded."""

    proof: dict[str, str | int | float]
    degraded: tuple[str, ...]
    kernels: int | None
    boundaries: tuple[str, ...]
    pid: int
    no_device: str = ""  # why a cell on a GPU has no device boundary


@dataclass(frozen=True)
class Warmup:
    """How a cell reached its steady state."""

    iterations: int
    seconds: float
    steady: bool  # the last windows agreed before `warmup_max_s` was over


@dataclass(frozen=True)
class SustainedLoad:
    """How many batches a cell ran in one go, and how long that took."""

    iterations: int
    seconds: float


@dataclass(frozen=True)
class Slice:
    """One timed visit: milliseconds of each iteration, by boundary."""

    milliseconds: dict[str, list[float]] = field(default_factory=dict)
