"""The options of the group `protocol`."""

from __future__ import annotations

from dataclasses import dataclass

from harness.config.ranges import Ranges, at_least, between, not_negative, one_of, positive


@dataclass
class ProtocolConfig:
    """How a quartet is measured; every setting is recorded with the run."""

    name: str = "default"  # which preset it began as
    primary: str = "auto"  # auto | device | wall | end_to_end; auto: device on a GPU, wall on a CPU
    warmup_min_s: float = 2.0  # GPU only
    warmup_min_iterations: int = 3  # at least, on any device
    warmup_windows: int = 3  # the last windows that must agree
    warmup_tolerance: float | None = None  # relative spread of those windows; None: 0.01 on a GPU, 0.05 on a CPU
    warmup_max_s: float = 30.0  # then it is measured all the same, and noted as unsteady
    ramp_iterations: int = 1  # untimed, at the start of every visit
    slice_s: float = 0.25  # timed part of a visit: whole iterations until this is used up
    min_blocks: int = 10  # before it may stop
    max_blocks: int = 400  # over all restarts
    half_width: float | None = None  # of ln(factor), stop there once decided; None: 0.01 on device, 0.03 elsewhere
    budget_s: float = 240.0  # of timing one quartet, without bringing its cells up
    margin: float = 0.05  # a factor within 1 - margin and 1 + margin counts as a product
    level: float = 0.95  # of confidence of the intervals
    restarts: int = 1  # fresh sets of processes
    host_bound_restarts: int = 8  # where a verdict on wall or end_to_end waits for the host; fewer leave it open
    builds: int = 1  # replicated builds of every engine; each is measured in restarts of its own
    energy_s: float = 1.0  # of sustained load a cell, untimed, to read its energy from; 0: none. GPU only
    ceilings: bool = True  # measure what a copy and a matrix product reach here, untimed, for the roofline's share
    why: bool = True  # profile each cell after timing, untimed, to say where the factor comes from
    coursework: bool = False  # also run the usual recipe on the same executables
    worker_timeout_s: float = 300.0  # a process that does not answer for so long is killed
    seed: int = 0  # of the order of visits


PROTOCOL_RANGES: Ranges = {
    "primary": one_of("auto", "device", "wall", "end_to_end"),
    "warmup_windows": at_least(1),
    "warmup_tolerance": positive(),
    "warmup_max_s": positive(),
    "ramp_iterations": at_least(0),
    "slice_s": positive(),
    "min_blocks": at_least(1),
    "half_width": positive(),
    "budget_s": positive(),
    "margin": between(0, 1),
    "level": between(0, 1),
    "restarts": at_least(1),
    "builds": at_least(1),
    "energy_s": not_negative("must be a number of seconds, 0 for none"),
    "worker_timeout_s": positive(),
    "seed": at_least(0),
}
