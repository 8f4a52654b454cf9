"""The three questions of the coursework, answered from a study's numbers: each sentence names those it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.choose import Candidate, Choice
from harness.report.findings import Findings
from harness.report.quartets import QuartetRow

WAITING = 0.2  # of the wall time; above it a cell counts as host-bound, as in the measurement's protocol


@dataclass(frozen=True)
class Answer:
    """One question with what the data say."""

    question: str
    sentences: tuple[str, ...]


def answers(findings: Findings) -> tuple[Answer, ...]:
    """Return the three answers."""
    real = [one for one in findings.measured if not one.is_control]
    return (
        Answer("Which side alone was the bottleneck, and why?", _bottleneck(real)),
        Answer("How did the two interact, and was that expected?", _interaction(findings, real)),
        Answer("Which combination should be used?", _combination(findings.choice, real)),
    )


def _bottleneck(real: Sequence[QuartetRow]) -> tuple[str, ...]:
    if not real:
        return ("No quartet of two real techniques was measured, so the data do not tell.",)
    hw_leads = [one for one in real if one.gains["hw"] > one.gains["arch"]]
    archs, hws = ([one.gains[key] for one in real] for key in ("arch", "hw"))
    side = "The acceleration" if 2 * len(hw_leads) >= len(real) else "The architecture change"
    led = max(len(hw_leads), len(real) - len(hw_leads))
    out = [
        f"{side} alone gained more in {led} of {len(real)} quartets: architecture changes alone gave "
        f"{_range(archs)}, accelerations alone {_range(hws)}."
    ]
    shares = [_baseline(one, "share") for one in real]
    known = [share for share in shares if share is not None]
    if known:
        bound = [_baseline(one, "memory_bound") for one in real]
        nearer = "memory bandwidth" if sum(value == 1 for value in bound) * 2 >= len(known) else "arithmetic"
        out.append(
            f"The baselines reached {_percents(known)} of the nearer measured ceiling ({nearer}): the rest of their "
            "time went to what the graph itself does not need (passes over memory, launches, low efficiency)."
        )
    hosts = [one.cells["baseline"].metrics.get("measure/host_share") for one in real if "baseline" in one.cells]
    waits = [share for share in hosts if share is not None]
    if waits:
        verb = "waited for the host" if max(waits) > WAITING else "did not wait for the host"
        out.append(f"On the wall clock the baselines {verb}: {_percents(waits)} of it was not device time.")
    return tuple(out)


def _interaction(findings: Findings, real: Sequence[QuartetRow]) -> tuple[str, ...]:
    if not real:
        return ("No quartet of two real techniques was measured.",)
    counts = findings.verdicts(controls=False)
    told = ", ".join(f"{number} {verdict}" for verdict, number in counts.most_common())
    out = [f"Beside each other (Holm), {len(real)} quartets are: {told}."]
    decided = [one for one in real if one.stands in ("amplify", "conflict") and one.factor]
    for name, pick in (("strongest conflict", min), ("strongest amplification", max)):
        one = pick(decided, key=lambda each: each.factor.value if each.factor else 1.0, default=None)
        if one and one.factor and (one.factor.value < 1) == (pick is min):
            out.append(
                f"The {name} is {one.arch_label} x {one.hw_label} (batch {dict(one.setting).get('batch_size')}): "
                f"{one.gains['combined']:.2f}x measured against {one.gains['expected']:.2f}x expected, factor "
                f"{one.factor.value:.3f} [{one.factor.low:.3f}, {one.factor.high:.3f}]."
            )
            if one.row.get("why/amdahl_factor"):
                out.append(
                    f"If the gains of each part of its network multiplied, its factor would be "
                    f"{one.row['why/amdahl_factor']:.3f} (Amdahl): what differs from that was not to be expected."
                )
    if not decided:
        out.append(
            "No departure from a product was established, so the expectation that gains multiply stands or is open."
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
        out.append("Its accuracy was not measured (no labelled data), so what it costs in answers is open.")
    if best.degraded:
        out.append("It is degraded: it did less than was asked of it (see its quartet).")
    return tuple(out)


def describe(one: Candidate) -> str:
    """Return a cell with its numbers."""
    numbers = [f"{one.throughput_ips:,.1f} images/s"]
    for value, text in (
        (one.p50_ms, "p50 {:.3g} ms"), (one.p99_ms, "p99 {:.3g} ms"), (one.memory_gb, "{:.3g} GB"),
        (one.accuracy_drop, "accuracy drop {:.4f}"),
    ):  # fmt: skip
        if value is not None:
            numbers.append(text.format(value))
    return f"{one.label} at {one.setting} ({', '.join(numbers)})"


def _baseline(one: QuartetRow, name: str) -> float | None:
    return one.cells["baseline"].metrics.get(f"roofline/{name}") if "baseline" in one.cells else None


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.2f}x", f"{max(values):.2f}x"
    return low if low == high else f"{low} to {high}"


def _percents(shares: Sequence[float]) -> str:
    low, high = f"{min(shares):.1%}", f"{max(shares):.1%}"
    return low if low == high else f"{low} to {high}"
