"""Every metric of a quartet's row, declared once: the reference page, MLflow's tables and the report show what is here.

To add a metric, declare it and log it under its name where it is computed. Tests fail for a metric that is logged and
not declared, and for one that is declared and never logged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Final, Literal

from harness.stats.roles import ROLES, prefix_of

# Places in MLflow's tables. The table of factors, from the left: the answer, how fast, then the details. The table of
# throughputs: one column for each cell, then what the combined cell costs.
Place = Literal["answer", "speed", "details", "each cell", "costs"]
HIGHER: Final = "higher"
LOWER: Final = "lower"
NEUTRAL: Final = "neutral"
_PREFIX = re.compile("|".join(f"^{prefix_of(role)}" for role in ROLES if prefix_of(role)))


@dataclass(frozen=True)
class Column:
    """Where tables show a metric."""

    heading: str = ""  # in the report's table of cells; "" where the report does not show it
    shown_as: str = ".3g"  # the report's format of its values
    places: tuple[Place, ...] = ("details",)  # in MLflow's tables


@dataclass(frozen=True)
class Metric:
    """One metric, or several of one meaning: `latency_ms/{p90,p95}`."""

    name: str
    unit: str
    better: Literal["higher", "lower", "neutral"]
    meaning: str
    column: Column | None = None
    of: Literal["cell", "quartet"] = "cell"  # a cell's metric has its role before it, but for the combined cell's

    @cached_property  # read for each cell of each quartet of a report
    def names(self) -> tuple[str, ...]:
        """Return the names one by one."""
        parts = [
            part[1:-1].split(",") if part.startswith("{") else [part] for part in re.split(r"(\{.*?\})", self.name)
        ]
        return tuple("".join(combination) for combination in product(*parts))


def declare(*metrics: Metric) -> None:
    """Add metrics to those that are declared.

    Raises:
        ValueError: one of them is declared already.

    """
    for metric in metrics:
        taken = [name for name in metric.names if name in _DECLARED]
        if taken:
            raise ValueError(f"metric {taken[0]!r} is declared twice: {_DECLARED[taken[0]].name} and {metric.name}")
        _DECLARED.update(dict.fromkeys(metric.names, metric))


def declared() -> tuple[Metric, ...]:
    """Return all metrics, in the order in which they were declared."""
    return tuple(dict.fromkeys(_DECLARED.values()))


def find_metric(logged: str) -> Metric | None:
    """Return the metric that a row logs under this name, with or without a role before it; None where there is none."""
    return _DECLARED.get(_PREFIX.sub("", logged))


def placed(place: Place) -> Iterator[str]:
    """Give the names of the metrics that have a column at this place of MLflow's tables."""
    for name, metric in _DECLARED.items():
        if metric.column is not None and place in metric.column.places:
            yield name


_DECLARED: dict[str, Metric] = {}

declare(
    Metric(
        "interaction/{factor,low,high}", "ratio", NEUTRAL, "combined / expected, with its interval, primary boundary",
        Column(places=("answer",)), of="quartet",
    ),
    Metric(
        "gain/{combined,expected}", "ratio", HIGHER,
        "of throughput to the baseline's, primary boundary; expected: arch x hw", Column(places=("speed",)),
        of="quartet",
    ),
    Metric("gain/{arch,hw}", "ratio", HIGHER, "of one side alone", Column(), of="quartet"),
    Metric("gain/{device,wall,e2e}_{arch,hw,combined,expected}", "ratio", HIGHER, "by boundary", of="quartet"),
    Metric(
        "gain/{arch,hw,combined}_{low,high}", "ratio", NEUTRAL, "interval of a gain, at `protocol.level`", of="quartet",
    ),
    Metric(
        "gain/{device,wall,e2e}_{arch,hw,combined}_{low,high}", "ratio", NEUTRAL, "likewise, by boundary", of="quartet",
    ),
    Metric("interaction/{device,wall,e2e}_{factor,low,high}", "ratio", NEUTRAL, "by boundary", of="quartet"),
    Metric(
        "gain/{at_slo,offline,single_stream}_{arch,hw,combined,expected}", "ratio", HIGHER, "under load", of="quartet",
    ),
    Metric(
        "interaction/{at_slo,offline,single_stream}_{factor,low,high}", "ratio", NEUTRAL, "under load", of="quartet",
    ),
    Metric(
        "interaction/p_value", "probability", NEUTRAL, "smallest 1 - level at which the verdict would hold",
        of="quartet",
    ),
    Metric(
        "interaction/p_holm", "probability", NEUTRAL, "the same after Holm's correction over the quartets of the sweep",
        of="quartet",
    ),
    Metric(
        "interaction/p_bh", "probability", NEUTRAL,
        "the same after Benjamini and Hochberg's, instead of it with `protocol.family=bh`", of="quartet",
    ),
    Metric(
        "measure/{blocks,restarts,builds}", "count", NEUTRAL, "that were measured; under load, blocks are repeats",
        of="quartet",
    ),
    Metric(
        "measure/discarded_blocks", "count", LOWER, "measured again: a chip that slowed down, a stall", of="quartet",
    ),
    Metric("measure/{seconds,bring_up_s}", "s", LOWER, "in all; until the first block", of="quartet"),
    Metric(
        "measure/{design_quartets,design_cells}", "count", NEUTRAL,
        "that were measured side by side, and share those seconds; distinct cells", of="quartet",
    ),
    Metric(
        "measure/carry_over_f", "ratio", LOWER,
        "does a cell's time depend on who ran before it: F of the predecessor, over all cells, primary boundary",
        of="quartet",
    ),
    Metric("measure/carry_over_p", "probability", HIGHER, "of so large an F if it doesn't", of="quartet"),
    Metric(
        "measure/half_width", "of ln(factor)", LOWER,
        "of the interval at the end, by the blocks and, of several, the builds that were measured", of="quartet",
    ),
    Metric("machine/copy_gb_s", "GB/s", NEUTRAL, "a large copy, measured on this machine", of="quartet"),
    Metric(
        "machine/{matmul_fp32_tflops,matmul_fp16_tflops,matmul_bf16_tflops,matmul_int8_tops}", "10^12 operations/s",
        NEUTRAL, "a large matrix product, measured on this machine", of="quartet",
    ),
    Metric(
        "why/{amdahl_factor,host_factor}", "ratio", NEUTRAL, "shares of the factor: pure stage-wise scaling, the host",
        of="quartet",
    ),
    Metric(
        "why/clock_factor", "ratio", NEUTRAL,
        "the cells' clocks, combined as the factor combines their throughputs: what they make of it at most",
        of="quartet",
    ),
    Metric(
        "interaction/sustained_factor", "ratio", NEUTRAL,
        "of `throughput/sustained`; without an interval: one load a cell", of="quartet",
    ),
    Metric("why/attributed", "share", HIGHER, "of the time that the profiles could name", of="quartet"),
    Metric("coursework/factor", "ratio", NEUTRAL, "the usual recipe's, with `protocol.coursework=true`", of="quartet"),
    Metric("gpu/{sm_clock_mhz,memory_clock_mhz}", "MHz", NEUTRAL, "mean between visits", of="quartet"),
    Metric("gpu/power_w", "W", NEUTRAL, "mean between visits", of="quartet"),
    Metric("gpu/temperature_c", "°C", NEUTRAL, "the highest between visits", of="quartet"),
    Metric("gpu/utilisation_percent", "%", NEUTRAL, "mean between visits", of="quartet"),
    Metric("gpu/memory_mb", "MB", NEUTRAL, "in use on the device, mean between visits", of="quartet"),
    Metric(
        "gpu/slowdown", "share", LOWER,
        "of the readings on a chip that was slowing down; absent where the driver does not report it", of="quartet",
    ),
    Metric("host/{cpu_percent,memory_percent}", "%", NEUTRAL, "of the whole machine", of="quartet"),
    Metric(
        "interaction/accuracy{,_low,_high}", "share of images", NEUTRAL,
        "top-1 of combined + baseline - arch - hw, image by image, with its interval: below 0, both cost more together",
        of="quartet",
    ),
    Metric("data/skipped", "images", LOWER, "that could not be read", of="quartet"),
)  # fmt: skip

declare(
    Metric(
        "throughput/{wall,device}", "images/s", HIGHER,
        "geometric mean over blocks (restarts count equally), by [boundary](../explanation/boundaries.md)",
        Column(places=("speed", "each cell")),
    ),
    Metric(
        "throughput/sustained", "images/s", HIGHER,
        "without the pauses of the turns, for `protocol.energy_s`, host included; GPU only",
    ),
    Metric("throughput/end_to_end", "images/s", HIGHER, "the same, with the images' way to the device"),
    Metric("throughput/{at_slo,completed,offline,single_stream}", "requests/s", HIGHER, "under load, one of them"),
    Metric("latency_ms/mean", "ms", LOWER, "of a batch on the wall clock; under load, of a request"),
    Metric(
        "latency_ms/p50", "ms", LOWER, "of the same, if there are enough samples for that percentile",
        Column("p50, ms", places=("details", "costs")),
    ),
    Metric("latency_ms/p90", "ms", LOWER, "likewise"),
    Metric("latency_ms/p95", "ms", LOWER, "likewise", Column("p95, ms", places=("details", "costs"))),
    Metric("latency_ms/p99", "ms", LOWER, "likewise", Column("p99, ms", places=("details", "costs"))),
    Metric("model/params_m", "millions", LOWER, "parameters, counted"),
    Metric("model/gmacs", "10^9 MACs an image", LOWER, "counted; of an early exit, weighted by the share that leaves"),
    Metric("early_exit/exit_share", "share", NEUTRAL, "that leaves"),
    Metric("early_exit/{gmacs_no_exit,gmacs_all_exit}", "10^9 MACs an image", NEUTRAL, "if none leaves, if all do"),
    Metric("early_exit/threshold", "confidence", NEUTRAL, "where a threshold decides"),
    Metric("build/{export_s,engine_s}", "s", LOWER, "when it was made, also where it came from the cache"),
    Metric("build/load_s", "s", LOWER, "to load what was built, beside other cells, in its first process"),
    Metric(
        "build/layers_{in_precision,weighted}", "layers", NEUTRAL,
        "convolutions and products that compute in the cell's precision, and all; where a precision leaves some out",
    ),
    Metric("build/engine_mb", "MB", LOWER, "of all artifacts"),
    Metric("build/cache_hit", "0 or 1", NEUTRAL, "nothing had to be made; of the quartet: of no cell"),
    Metric(
        "fidelity/{max_abs,max_relative}", "of a logit; share", LOWER,
        "largest difference from the same architecture in fp32 eager",
    ),
    Metric("fidelity/cosine", "-1 to 1", HIGHER, "the lowest over heads"),
    Metric(
        "fidelity/top1_agreement", "share", HIGHER, "same answer as fp32 eager, on random inputs",
        Column("same answers as fp32 eager", ".1%", places=()),
    ),
    Metric("fidelity/exit_flips", "samples", LOWER, "left where eager stayed, or the other way round"),
    Metric("fidelity/served", "share", LOWER, "under load: largest difference of what was served"),
    Metric("accuracy/top1", "share", HIGHER, "on labelled test images", Column("top-1", ".1%", places=("speed",))),
    Metric("accuracy/{top1_low,top1_high}", "share", HIGHER, "its interval"),
    Metric("accuracy/{top5,top5_low,top5_high}", "share", HIGHER, "with more than five classes"),
    Metric("accuracy/agreement", "share", HIGHER, "same answer as fp32 eager, on the test images"),
    Metric("accuracy/images", "images", NEUTRAL, "in the test set"),
    Metric("accuracy/{drop,drop_low,drop_high}", "share", LOWER, "top-1 lost against the baseline, image by image"),
    Metric(
        "accuracy/{exit_share,exited_top1,stayed_top1,exit_head_top1,last_head_top1}", "share", NEUTRAL,
        "of an early exit, by exit and by head",
    ),
    Metric("gpu/energy_j_per_image", "J", LOWER, "under sustained load"),
    Metric(
        "gpu/clock_mhz", "MHz", NEUTRAL, "of the multiprocessors, mean after the cell's visits",
        Column("SM clock, MHz", ",.0f", places=()),
    ),
    Metric("gpu/sustained_clock_mhz", "MHz", NEUTRAL, "likewise, during its sustained load"),
    Metric(
        "gpu/{power_capped,thermal_capped}", "share", LOWER,
        "of the time around its visits in which power or heat held the clock down, as the driver integrates it",
    ),
    Metric("gpu/{sustained_power_capped,sustained_thermal_capped}", "share", LOWER, "likewise, of its sustained load"),
    Metric(
        "gpu/peak_memory_mb", "MB", LOWER, "device memory of the cell's process, CUDA context included",
        Column("device memory, MB", ",.0f", places=("costs",)),
    ),
    Metric(
        "host/peak_memory_mb", "MB", LOWER, "host memory of the cell's process",
        Column("host memory, MB", ",.0f", places=()),
    ),
    Metric(
        "roofline/gflop_per_image", "10^9 operations", LOWER, "counted in the exported graph",
        Column("GFLOP/image", places=()),
    ),
    Metric("roofline/mb_per_image", "MB", LOWER, "each layer's inputs read and outputs written once"),
    Metric(
        "roofline/share", "share", HIGHER, "reached of the nearer ceiling",
        Column("share of ceiling", ".1%", places=("costs",)),
    ),
    Metric("roofline/memory_bound", "0 or 1", NEUTRAL, "which ceiling that is"),
    Metric(
        "measure/host_share", "share", LOWER,
        "1 - device / wall, of the cell that waits most (with a prefix: of that cell)",
        Column("host share", ".1%", places=()),
    ),
    Metric(
        "load/{queue_ms,compute_ms,host_sync_ms}", "ms", LOWER,
        "means: waiting for a batch, a batch, an exit's decision",
    ),
    Metric("load/{padding_share,utilisation}", "share", NEUTRAL, "of what was run; of the time in which a batch ran"),
    Metric(
        "load/slowdown", "ratio", LOWER,
        "a batch's time under load over its time alone; above 1.1 the row has a note; not of an early exit",
    ),
    Metric("load/mean_batch_size", "images", NEUTRAL, "as served"),
    Metric("load/max_batch_size", "images", NEUTRAL, "of the cell's policy"),
    Metric("load/batches", "batches", NEUTRAL, "of a test"),
    Metric("load/exit_rate", "share", NEUTRAL, "requests that left early"),
    Metric("load/exit_threshold", "confidence", NEUTRAL, "in use"),
    Metric("load/saved_work_share", "share", HIGHER, "of the operations, by those that left"),
    Metric(
        "load/saturated_{measured,none,all}_exit_per_s", "images/s", HIGHER,
        "of a saturated early exit: as it is, if nobody leaves, if everybody does",
    ),
    Metric("load/loadgen_lag_ms", "ms", NEUTRAL, "LoadGen's mean latency less ours: its lateness, and the way back"),
    Metric("load/shed", "requests", LOWER, "never run, since the queue had grown without end"),
)  # fmt: skip
