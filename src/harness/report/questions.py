"""The questions of the coursework, answered from a study's numbers: each sentence names those it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.choose import Candidate, Choice
from harness.report.findings import Findings
from harness.report.quartets import QuartetRow, interval
from harness.system.counts import counted

WAITING = 0.2  # of the wall time; above it a cell counts as host-bound, as in the measurement's protocol


@dataclass(frozen=True)
class Answer:
    """One question with what the data say."""

    question: str
    sentences: tuple[str, ...]


def answers(findings: Findings) -> tuple[Answer, ...]:
    """Return the answers; a question that the data don't tell of is left out."""
    real = [quartet for quartet in findings.measured if not quartet.is_control]
    found = (
        Answer("What limited the baselines?", _bottleneck(real)),
        Answer("How did the two interact, and was that expected?", _interaction(findings, real)),
        Answer("Which combination should be used?", _combination(findings.choice, real)),
    )
    return tuple(answer for answer in found if answer.sentences)


NEAR = 0.5  # of a ceiling; above it that ceiling limits, below it something else does


def _bottleneck(real: Sequence[QuartetRow]) -> tuple[str, ...]:
    """Return what the roofline and the device's idle time say; nothing where neither was measured."""
    out = []
    known = [share for quartet in real if (share := _baseline(quartet, "share")) is not None]
    if known:
        memory = [
            _baseline(quartet, "memory_bound") == 1 for quartet in real if _baseline(quartet, "share") is not None
        ]
        ceiling = "memory bandwidth" if all(memory) else "arithmetic" if not any(memory) else "memory or arithmetic"
        reached = f"they reached {_percents(known)} of the nearer measured ceiling ({ceiling})"
        if min(known) >= NEAR:
            out.append(f"The chip's {ceiling}: {reached}.")
        elif max(known) < NEAR:
            out.append(f"Neither the chip's arithmetic nor its memory bandwidth: {reached}.")
        else:
            out.append(f"That differs between them: {reached}.")
    waits = [
        share
        for quartet in real
        if "baseline" in quartet.cells
        and (share := quartet.cells["baseline"].metrics.get("measure/host_share")) is not None
    ]
    if waits:
        verb = "waited for the host" if max(waits) > WAITING else "did not wait for the host"
        out.append(f"The device {verb}: {_percents(waits)} of the wall time was not device time.")
    return tuple(out)


def _interaction(findings: Findings, real: Sequence[QuartetRow]) -> tuple[str, ...]:
    if not real:
        return ("No quartet of two real techniques was measured.",)
    counts = findings.verdicts(controls=False)
    listed = ", ".join(f"{number} {verdict}" for verdict, number in counts.most_common())
    archs, hws = ([quartet.gains[key] for quartet in real if key in quartet.gains] for key in ("arch", "hw"))
    out = [f"After {findings.correction.title} correction, of {counted(len(real), 'quartet')}: {listed}."]
    if archs and hws:
        out.append(f"Alone, architecture changes gave {_range(archs)} and accelerations {_range(hws)}.")
    decided = [quartet for quartet in real if quartet.verdict_adjusted in ("amplify", "conflict") and quartet.factor]
    for name, pick in (("strongest conflict", min), ("strongest amplification", max)):
        quartet = pick(decided, key=lambda row: row.factor.value if row.factor else 1.0, default=None)
        if quartet and quartet.factor and (quartet.factor.value < 1) == (pick is min):
            out.append(
                f"The {name} is {quartet.arch_label} x {quartet.hw_label} "
                f"(batch {dict(quartet.setting)['batch_size']}): "
                f"{quartet.gains['combined']:.2f}x measured against {quartet.gains['expected']:.2f}x expected, factor "
                f"{interval(quartet.factor)}."
            )
            if quartet.row.get("why/amdahl_factor"):
                amdahl = float(quartet.row["why/amdahl_factor"])
                held = quartet.factor.low <= amdahl <= quartet.factor.high
                rest = "its interval holds that" if held else "what differs from that was not to be expected"
                out.append(
                    "If the gains of each part of its network multiplied, its factor would be "
                    f"{amdahl:.3f} (Amdahl): {rest}."
                )
    if not decided:
        out.append(
            "No departure from a product was established, so gains may multiply as expected, or the data do not decide."
        )
    controls = findings.verdicts(controls=True)
    if controls:
        false = sum(number for verdict, number in controls.items() if verdict in ("amplify", "conflict"))
        out.append(f"Of {sum(controls.values())} A/A controls, whose true factor is 1, {false} gave a false verdict.")
    return tuple(out)


def _combination(choice: Choice, real: Sequence[QuartetRow]) -> tuple[str, ...]:
    if not real:
        return ("There is none to choose: no quartet of two real techniques was measured.",)
    limits = [
        f"{name} of at most {value:g}{unit}"
        for name, value, unit in (
            ("an accuracy drop", choice.limits.max_accuracy_drop, ""),
            ("a p99", choice.limits.max_p99_ms, " ms"),
            ("a memory", choice.limits.max_memory_gb, " GB"),
        )
        if value is not None
    ]
    under = f" with {', '.join(limits)}" if limits else ""
    if choice.best is None:
        reasons = dict.fromkeys(reason for _, reason in choice.refused)
        return (f"No measured cell can be shown to keep within the limits{under}: {'; '.join(reasons) or 'none'}.",)
    best = choice.best
    out = [f"The fastest measured cell{under} is {describe(best)}."]
    if best.accuracy_drop is None:
        why = "untrained weights: python -m harness.train" if best.untrained else "no labelled data"
        out.append(f"Its accuracy was not measured ({why}), so what it costs in answers is open.")
    if best.degraded:
        out.append("It is degraded: it did less than requested (see its quartet).")
    return tuple(out)


def describe(candidate: Candidate) -> str:
    """Return a cell with its numbers."""
    numbers = [f"{candidate.throughput_ips:,.1f} {candidate.unit}"]
    for value, text in (
        (candidate.p50_ms, "p50 {:.3g} ms"), (candidate.p99_ms, "p99 {:.3g} ms"), (candidate.memory_gb, "{:.3g} GB"),
        (candidate.accuracy_drop, "accuracy drop {:.4f}"),
    ):  # fmt: skip
        if value is not None:
            numbers.append(text.format(value))
    return f"{candidate.label} at {candidate.setting} ({', '.join(numbers)})"


def _baseline(quartet: QuartetRow, name: str) -> float | None:
    return quartet.cells["baseline"].metrics.get(f"roofline/{name}") if "baseline" in quartet.cells else None


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.2f}x", f"{max(values):.2f}x"
    return low if low == high else f"{low} to {high}"


def _percents(shares: Sequence[float]) -> str:
    low, high = f"{min(shares):.1%}", f"{max(shares):.1%}"
    return low if low == high else f"{low} to {high}"
