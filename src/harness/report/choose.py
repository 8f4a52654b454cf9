"""The fastest combination that keeps within limits, and the Pareto front of speed, latency, memory and accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.report.quartets import QuartetRow, Setting, setting_label
from harness.results.accuracy import COLLAPSE
from harness.results.units import unit_of_throughput


@dataclass(frozen=True)
class Limits:
    """What a combination must keep; None: whatever it costs."""

    # of top-1 against the baseline cell; 0.01 is one point in a hundred; None: any but a collapse
    max_accuracy_drop: float | None = None
    max_p99_ms: float | None = None
    max_memory_gb: float | None = None


@dataclass(frozen=True)
class Candidate:
    """One distinct cell of a study; measured in several quartets, it is their geometric mean and their worst cost."""

    label: str
    setting: str  # its batch size, and whatever differs between the settings of the study
    batch_size: int
    group: str  # the setting without the batch size
    throughput_ips: float
    unit: str  # of the throughput: images/s, samples/s, requests/s
    p50_ms: float | None
    p99_ms: float | None
    memory_gb: float | None
    accuracy_drop: float | None  # against the baseline beside it
    quartets: int
    degraded: bool
    untrained: bool  # its weights are: why it has no accuracy


@dataclass(frozen=True)
class Choice:
    """What to run."""

    limits: Limits
    best: Candidate | None
    front: tuple[Candidate, ...]  # among those within the limits
    objectives: tuple[str, ...]  # what the front is about: what every candidate has a number for
    refused: tuple[tuple[Candidate, str], ...]  # outside the limits, or not known to be inside, and why
    candidates: tuple[Candidate, ...]


def choose(quartets: Sequence[QuartetRow], limits: Limits) -> Choice:
    """Return the choice among all measured cells. A limit counts as exceeded where its number is missing."""
    candidates = candidates_of(quartets)
    reasons = [(candidate, _refusal(candidate, limits)) for candidate in candidates]
    within = [candidate for candidate, reason in reasons if reason is None]
    objectives = tuple(
        name for name in _OBJECTIVES if all(_OBJECTIVES[name](candidate) is not None for candidate in within)
    )
    return Choice(
        limits=limits,
        best=max(within, key=lambda candidate: candidate.throughput_ips, default=None),
        front=_front(within, objectives),
        objectives=objectives,
        refused=tuple((candidate, reason) for candidate, reason in reasons if reason is not None),
        candidates=candidates,
    )


def candidates_of(quartets: Sequence[QuartetRow]) -> tuple[Candidate, ...]:
    """Return every distinct cell, the controls' only as the baseline that they are."""
    settings = list(dict.fromkeys(quartet.setting for quartet in quartets))
    found: dict[tuple[Setting, str], list[tuple[QuartetRow, str]]] = {}
    for quartet in quartets:
        for role in quartet.cells:
            if quartet.is_control and role != "baseline":
                continue
            found.setdefault((_setting_of(quartet.setting, role), cell_label(quartet, role)), []).append(
                (quartet, role)
            )
    out = []
    for (_, label), places in found.items():
        cells = [quartet.cells[role] for quartet, role in places]
        drops = [_accuracy_drop(quartet, role) for quartet, role in places]
        setting = places[0][0].setting
        out.append(
            Candidate(
                label=label,
                setting=setting_label(setting, settings, always=("batch_size",)),
                batch_size=int(dict(setting)["batch_size"]),
                group=setting_label(_but_batch(setting), [_but_batch(each) for each in settings], always=()),
                throughput_ips=math.exp(float(np.mean([math.log(cell.throughput_ips) for cell in cells]))),
                unit=unit_of_throughput(places[0][0].row),
                p50_ms=_worst([cell.metrics.get("latency_ms/p50") for cell in cells]),
                p99_ms=_worst([cell.metrics.get("latency_ms/p99") for cell in cells]),
                memory_gb=_worst([cell.memory_gb for cell in cells]),
                accuracy_drop=_worst(drops),
                quartets=len(places),
                degraded=any(role in _roles_named(quartet, "degraded") for quartet, role in places),
                untrained=any(role in _roles_named(quartet, "untrained") for quartet, role in places),
            )
        )
    return tuple(out)


def cell_label(quartet: QuartetRow, role: str) -> str:
    """Return what a cell is: its techniques, and its engine where not all cells of the quartet have the same."""
    hw = (quartet.hw_label,) if quartet.contains_engine else quartet.hw
    on = {"baseline": (), "arch": quartet.arch, "hw": hw, "combined": (*quartet.arch, *hw)}[role]
    label = " + ".join(on) or "baseline"
    reference = _reference_engine(quartet.setting, role)
    return f"{label} ({reference})" if reference not in (None, dict(quartet.setting).get("engine")) else label


def _reference_engine(setting: Setting, role: str) -> str | None:
    """Return the engine that a cell without hardware techniques ran on, where the quartet's reference names one."""
    reference = dict(setting).get("reference")
    return None if reference == "engine" or role not in ("baseline", "arch") else reference


def _setting_of(setting: Setting, role: str) -> Setting:
    """Return the setting of a cell; a cell of the eager reference does not depend on its quartet's engine."""
    if _reference_engine(setting, role) is not None:
        return tuple((name, value) for name, value in setting if name not in ("engine", "engine_version"))
    return setting


def _but_batch(setting: Setting) -> Setting:
    return tuple((name, value) for name, value in setting if name != "batch_size")


def _accuracy_drop(quartet: QuartetRow, role: str) -> float | None:
    top1 = {
        name: quartet.cells[name].metrics.get("accuracy/top1") for name in ("baseline", role) if name in quartet.cells
    }
    before, after = top1.get("baseline"), top1[role]
    return None if before is None or after is None else before - after


def _roles_named(quartet: QuartetRow, tag: str) -> set[str]:
    """Return the roles that a tag names, which is written as "arch, combined: reason; hw: reason"."""
    parts = str(quartet.row.get(tag) or "").split("; ")
    return {role.strip() for part in parts if ":" in part for role in part.partition(":")[0].split(",")}


def _worst(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) if len(known) == len(values) else None


def _refusal(candidate: Candidate, limits: Limits) -> str | None:
    limited = (
        ("accuracy drop", candidate.accuracy_drop, limits.max_accuracy_drop, ""),
        ("p99", candidate.p99_ms, limits.max_p99_ms, " ms"),
        ("memory", candidate.memory_gb, limits.max_memory_gb, " GB"),
    )
    for name, value, limit, unit in limited:
        if limit is None:
            if name == "accuracy drop" and value is not None and value > COLLAPSE:
                return f"accuracy drop {value:.4g}: its answers collapsed (above {COLLAPSE:g})"
            continue
        if value is None:
            untrained = candidate.untrained and name == "accuracy drop"
            return f"{name} was not measured{' (untrained weights)' * untrained}"
        if value > limit:
            return f"{name} {value:.4g}{unit} is above {limit:g}{unit}"
    return None


# lower is better in each; None where it was not measured
_OBJECTIVES: Mapping[str, Callable[[Candidate], float | None]] = {
    "throughput": lambda candidate: -candidate.throughput_ips,
    "p50 latency": lambda candidate: candidate.p50_ms,
    "memory": lambda candidate: candidate.memory_gb,
    "accuracy": lambda candidate: candidate.accuracy_drop,
}


def _front(candidates: Sequence[Candidate], objectives: Sequence[str]) -> tuple[Candidate, ...]:
    """Return the candidates that no other beats in one objective without losing in another, fastest first."""
    if not candidates:
        return ()
    costs = np.array([[_OBJECTIVES[name](candidate) for name in objectives] for candidate in candidates], dtype=float)
    beaten = [
        bool(np.any(np.all(costs <= costs[n], axis=1) & np.any(costs < costs[n], axis=1))) for n in range(len(costs))
    ]
    unbeaten = [candidate for candidate, is_beaten in zip(candidates, beaten, strict=True) if not is_beaten]
    return tuple(sorted(unbeaten, key=lambda candidate: -candidate.throughput_ips))
