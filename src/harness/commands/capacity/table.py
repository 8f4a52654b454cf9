"""The answer for a person: baseline and candidate side by side, and what to make of the check."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from harness.commands.capacity.answer import FleetAnswer
from harness.commands.capacity.fleet_check import AGREEMENT, OVERLOAD, SEEDS, FleetCheck
from harness.commands.capacity.plan import Cost, FleetPlan
from harness.results.units import SAMPLE, counted_in
from harness.system.tables import new_table, print_fitting

SPLIT_NAMES = {
    "random": "at random (each GPU gets Poisson arrivals, as the measured one did)",
    "round_robin": "in turns (smoother than what was measured)",
    "shortest_queue": "to the shortest queue (smoother than what was measured)",
}


def print_answer(console: Console, found: FleetAnswer) -> None:
    """Print the question, the plans, the checks and their notes."""
    curves, question = found.curves, found.question
    bound = f"{curves.percentile_name} <= {found.slo_ms:g} ms"
    where = f", measured on {curves.device}" if curves.device else ""
    amount = question.demand.described(curves.sample)
    console.print(f"{curves.name}{where}: {amount} within {bound}", highlight=False, soft_wrap=True)
    table = new_table()
    table.add_column("")
    for plan in found.plans:
        table.add_column(plan.sustained.cell, justify="right", no_wrap=True)
    row = {SAMPLE: curves.sample}
    for name, cells in _rows(found, bound):
        table.add_row(counted_in(row, name), *(counted_in(row, cell) for cell in cells))
    print_fitting(console, [table])
    if len(found.plans) == 2:
        baseline, candidate = found.plans
        console.print(
            f"{candidate.sustained.cell} needs {candidate.gpus / baseline.gpus:.2f}x the GPUs of the baseline.",
            highlight=False,
        )
    for line in notes(found):
        console.print(f"  {line}", style="yellow", highlight=False, markup=False, soft_wrap=True)


def _rows(found: FleetAnswer, bound: str) -> list[tuple[str, list[str]]]:
    plans, checks = found.plans, found.checks
    hours = len(found.question.demand.hours) > 1
    rows = [
        (f"images/s a GPU, {bound}", [f"{plan.sustained.rate_per_s:,.1f}" for plan in plans]),
        ("  its interval", [_interval(plan.sustained.low_per_s, plan.sustained.high_per_s, ",.1f") for plan in plans]),
        (f"GPUs, {plans[0].headroom:.0%} headroom", [f"{plan.gpus:,}" for plan in plans]),
        ("  by that interval", [_interval(plan.gpus_low, plan.gpus_high, ",") for plan in plans]),
        ("utilisation, mean", [f"{plan.utilisation_mean:.1%}" for plan in plans]),
        ("utilisation, peak", [f"{plan.utilisation_peak:.1%}" for plan in plans]),
        *_costs("", [plan.cost for plan in plans]),
    ]
    if hours:
        rows += [
            ("GPUs autoscaled by the hour, mean", [f"{plan.autoscaled_gpus_mean:,.1f}" for plan in plans]),
            ("  fewest to most", [_interval(min(plan.gpus_by_hour), max(plan.gpus_by_hour), ",") for plan in plans]),
            *_costs("  ", [plan.autoscaled_cost for plan in plans]),
        ]
    if checks:
        rows += [
            ("simulated: images/s a GPU", [f"{check.rate_per_s:,.1f}" for check in checks]),
            (f"  over {len(SEEDS)} seeds", [_interval(*_ends(check), ",.1f") for check in checks]),
            ("simulated: GPUs", ["none will do" if check.gpus is None else f"{check.gpus:,}" for check in checks]),
            ("  simulation over plan", [f"{check.difference:+.1%} images/s" for check in checks]),
            (f"simulated: {found.curves.percentile_name} at the peak", [_latency(check) for check in checks]),
            ("  GPUs busy", [f"{check.busy_share:.1%}" for check in checks]),
            ("  mean batch", [f"{check.mean_batch_size:.1f}" for check in checks]),
        ]
    return rows


def notes(found: FleetAnswer) -> list[str]:
    """Return what a reader must know about the numbers, warnings among them."""
    lines = []
    if found.checks and all(check.agrees for check in found.checks):
        lines.append(f"plan and simulation agree within {AGREEMENT:.0%}")
    if found.baseline_missing:
        lines.append(f"no plan of the baseline: {found.baseline_missing}")
    if any(plan.sustained.interpolated for plan in found.plans):
        lines.append(
            f"measured for {found.curves.slo_ms:g} ms; at {found.slo_ms:g} ms interpolated between measured rates, "
            "the interval in proportion"
        )
    for plan, check in zip(found.plans, found.checks, strict=False):
        lines += _check_notes(found, plan, check)
    if found.checks:
        alike = {
            f"{check.gpus_simulated} of {plan.gpus:,}" for plan, check in zip(found.plans, found.checks, strict=True)
        }
        lines.append(
            f"simulated: {' and '.join(sorted(alike))} GPUs (they are alike), requests split "
            f"{SPLIT_NAMES[found.checks[0].split]}"
        )
    return lines


def _check_notes(found: FleetAnswer, plan: FleetPlan, check: FleetCheck) -> list[str]:
    cell = found.curves.cells[plan.sustained.cell]
    lines = []
    if not check.agrees and check.split != "random" and check.difference > 0:
        lines.append(
            f"{cell.name}: with requests split evener than the measured ones a GPU sustains {check.difference:+.1%} in "
            "the simulation; the plan does not count on it (--split random compares like with like)"
        )
    elif not check.agrees:
        lines.append(
            f"WARNING: {cell.name}: measurement and simulation disagree by {check.difference:+.1%} (more than "
            f"{AGREEMENT:.0%}): batch times alone do not explain its curve; trust the measurement, and leave headroom"
        )
    if check.overlooked > 1.01 * OVERLOAD:  # more than what rounding up leaves
        lines.append(f"{cell.name}: the simulation is too short to show an overload below {check.overlooked:.1%}")
    if check.meets_bound is False:
        lines.append(f"WARNING: {cell.name}: the simulated fleet misses the bound at the peak")
    largest = max(cell.service_ms)
    if largest < cell.policy.max_batch_size:
        lines.append(f"{cell.name}: no batch above {largest} was measured, so none is simulated")
    if cell.unmodelled:
        lines.append(f"{cell.name}: not simulated of its batcher: {', '.join(cell.unmodelled)}")
    return lines


def _costs(indent: str, costs: Sequence[Cost | None]) -> list[tuple[str, list[str]]]:
    known = [cost for cost in costs if cost is not None]
    if not known:
        return []
    return [
        (f"{indent}cost an hour", [f"{cost.per_hour:,.2f}" for cost in known]),
        (f"{indent}cost a million images", [f"{cost.per_million_images:,.4g}" for cost in known]),
    ]


def _ends(check: FleetCheck) -> tuple[float, float]:
    return min(check.rates_per_s), max(check.rates_per_s)


def _latency(check: FleetCheck) -> str:
    return "too few requests" if check.latency_ms is None else f"{check.latency_ms:.1f} ms"


def _interval(low: float | None, high: float | None, form: str) -> str:
    return "-" if low is None or high is None else f"{low:{form}} to {high:{form}}"
